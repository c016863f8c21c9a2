// probe does from inside a command what a shell cannot. Each way prints one line.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/keyctl.h>
#include <netinet/in.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

static int result(const char *what, long r)
{
	printf("%s: %s\n", what, r < 0 ? strerrorname_np(errno) : "ok");
	return 0;
}

// dial connects to a socket in the file system, or to an abstract one (@NAME).
static int dial(const char *name, int kind)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	socklen_t size = offsetof(struct sockaddr_un, sun_path) + strlen(name);
	int s = socket(AF_UNIX, kind, 0);

	memcpy(addr.sun_path, name, strlen(name));
	if (name[0] == '@')
		addr.sun_path[0] = 0;
	else
		size++;
	return connect(s, (struct sockaddr *)&addr, size) < 0 ? -1 : s;
}

// give sends an open file through a socket.
static int give(const char *name, int fd)
{
	char byte = 0;
	union {
		char buf[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} u = {0};
	struct iovec iov = {&byte, 1};
	struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = u.buf, .msg_controllen = sizeof(u.buf)};
	struct cmsghdr *c = CMSG_FIRSTHDR(&m);
	int s = dial(name, SOCK_STREAM);

	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(c), &fd, sizeof(int));
	if (s < 0 || sendmsg(s, &m, 0) < 0)
		return result("give", -1);
	// Until it has been taken: what is under way would be lost with us.
	return result("give", read(s, &byte, 1) == 1 ? 0 : -1);
}

int main(int argc, char **argv)
{
	const char *what = argc > 1 ? argv[1] : "", *arg = argc > 2 ? argv[2] : "";

	setvbuf(stdout, NULL, _IONBF, 0);
	if (!strcmp(what, "connect"))
		return result("stream", dial(arg, SOCK_STREAM)), result("datagram", dial(arg, SOCK_DGRAM));
	if (!strcmp(what, "give-output"))
		return give(arg, 1);
	if (!strcmp(what, "give-root"))
		return give(arg, open("/", O_RDONLY | O_DIRECTORY));
	if (!strcmp(what, "give-file"))
		return give(arg, open("/given", O_WRONLY | O_CREAT, 0666));
	if (!strcmp(what, "raw"))
		return result("packet", socket(AF_PACKET, SOCK_RAW, htons(3))),
		       result("raw", socket(AF_INET, SOCK_RAW, IPPROTO_ICMP)),
		       result("stream", socket(AF_INET, SOCK_STREAM, 0));
	if (!strcmp(what, "key"))
		return result("key", syscall(SYS_keyctl, KEYCTL_SEARCH, KEY_SPEC_SESSION_KEYRING, "user", arg, 0));
	if (!strcmp(what, "inherited")) {
		for (int fd = 3; fd < 1024; fd++)
			if (fcntl(fd, F_GETFD) >= 0)
				printf("%d\n", fd);
		return 0;
	}
	return 64;
}
