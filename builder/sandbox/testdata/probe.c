// probe does from inside a command what a shell cannot. Each way prints one line.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/keyctl.h>
#include <netinet/in.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/un.h>
#include <sys/wait.h>
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

// tcp connects a socket to a port of this machine.
static int tcp(int s, int port)
{
	struct sockaddr_in addr = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};

	return s < 0 ? -1 : connect(s, (struct sockaddr *)&addr, sizeof(addr));
}

// share binds a socket to a port that another has bound, and shares with its own user.
static int share(int port)
{
	struct sockaddr_in addr = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	int on = 1, s = socket(AF_INET, SOCK_STREAM, 0);

	if (setsockopt(s, SOL_SOCKET, SO_REUSEPORT, &on, sizeof(on)) < 0)
		return result("option", -1);
	return result("share", bind(s, (struct sockaddr *)&addr, sizeof(addr)));
}

// listen_abstract listens on abstract sockets, the last with a name that the kernel
// gives, says so through a socket in the file system, and waits until that ends.
static int listen_abstract(const char *name, const char *tell)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	socklen_t size = offsetof(struct sockaddr_un, sun_path) + strlen(name);
	int stream = socket(AF_UNIX, SOCK_STREAM, 0), datagram = socket(AF_UNIX, SOCK_DGRAM, 0);
	int named = socket(AF_UNIX, SOCK_STREAM, 0), s = dial(tell, SOCK_STREAM);

	memcpy(addr.sun_path + 1, name + 1, strlen(name) - 1);
	if (bind(stream, (struct sockaddr *)&addr, size) < 0 || listen(stream, 1) < 0)
		return result("stream", -1);
	addr.sun_path[1]++;
	if (bind(datagram, (struct sockaddr *)&addr, size) < 0)
		return result("datagram", -1);
	if (bind(named, (struct sockaddr *)&addr, sizeof(addr.sun_family)) < 0 || listen(named, 1) < 0)
		return result("named", -1);
	size = sizeof(addr);
	getsockname(named, (struct sockaddr *)&addr, &size);
	write(s, addr.sun_path + 1, size - offsetof(struct sockaddr_un, sun_path) - 1);
	read(s, addr.sun_path, 1);
	return result("listened", 0);
}

#ifdef __x86_64__
// socketcall makes a socket as old C libraries for 32-bit x86 do.
static int socketcall(int domain, int type, int protocol)
{
	int *args = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0);
	long r;

	args[0] = domain, args[1] = type, args[2] = protocol;
	__asm__ volatile("int $0x80" : "=a"(r) : "a"(102), "b"(1), "c"(args) : "memory", "r8", "r9", "r10", "r11");
	if ((int)r < 0)
		return errno = -(int)r, -1;
	return r;
}
#else
#define socketcall socket
#endif

// kinds says what becomes of sockets of several kinds.
static int kinds(int port)
{
	struct rlimit none = {3, 3};
	int s;

	result("tcp", tcp(socket(AF_INET, SOCK_STREAM, 0), port));
	result("udp", tcp(socket(AF_INET, SOCK_DGRAM, 0), port));
	result("tcp6", socket(AF_INET6, SOCK_STREAM, 0));
	result("socketcall", tcp(socketcall(AF_INET, SOCK_STREAM, 0), port));
	result("socketcall for another", socketcall(AF_UNIX, SOCK_STREAM, 0));
	result("high bits", tcp(syscall(SYS_socket, AF_INET | 1L << 32, SOCK_STREAM | 1L << 32, 0), port));
	s = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	printf("flags: %d %d\n", fcntl(s, F_GETFD) == FD_CLOEXEC, (fcntl(s, F_GETFL) & O_NONBLOCK) != 0);
	s = socket(AF_INET, SOCK_STREAM, 0);
	printf("no flags: %d %d\n", fcntl(s, F_GETFD) == FD_CLOEXEC, (fcntl(s, F_GETFL) & O_NONBLOCK) != 0);
	result("unknown protocol", socket(AF_INET, SOCK_STREAM, 250));
	result("unknown flag", socket(AF_INET, SOCK_STREAM | 0x100000, 0));
	setrlimit(RLIMIT_NOFILE, &none);
	return result("too many", socket(AF_INET, SOCK_STREAM, 0));
}

static void nothing(int sig) { (void)sig; }

// many makes sockets in several processes at once, while signals come, and ends
// some of them on the way.
static int many(void)
{
	struct sigaction act = {.sa_handler = nothing, .sa_flags = SA_RESTART};
	struct itimerval often = {{0, 300}, {0, 300}};
	int bad = 0, status;

	sigaction(SIGALRM, &act, NULL);
	for (int i = 0; i < 8; i++) {
		pid_t victim, p = fork();
		if (p)
			continue;
		victim = fork();
		if (!victim)
			for (;;)
				close(socket(AF_INET, SOCK_DGRAM, 0));
		setitimer(ITIMER_REAL, &often, NULL);
		for (int n = 0; n < 300; n++) {
			int domain = 0, s = socket(n % 2 ? AF_INET : AF_INET6, SOCK_STREAM, 0);
			socklen_t size = sizeof(domain);
			if (s < 3 || getsockopt(s, SOL_SOCKET, SO_DOMAIN, &domain, &size) < 0 || domain != (n % 2 ? AF_INET : AF_INET6))
				_exit(1);
			close(s);
		}
		kill(victim, SIGKILL);
		_exit(0);
	}
	while (wait(&status) > 0)
		bad += status != 0;
	printf("bad: %d\n", bad);
	return 0;
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
	if (!strcmp(what, "give-socket"))
		return give(arg, socket(AF_UNIX, SOCK_STREAM, 0));
	if (!strcmp(what, "raw"))
		return result("packet", socket(AF_PACKET, SOCK_RAW, htons(3))),
		       result("raw", socket(AF_INET, SOCK_RAW, IPPROTO_ICMP)),
		       result("stream", socket(AF_INET, SOCK_STREAM, 0));
	if (!strcmp(what, "listen"))
		return listen_abstract(arg, argv[3]);
	if (!strcmp(what, "kinds"))
		return kinds(atoi(arg));
	if (!strcmp(what, "share"))
		return share(atoi(arg));
	if (!strcmp(what, "share-as"))
		return seteuid(atoi(argv[3])), share(atoi(arg));
	if (!strcmp(what, "many"))
		return many();
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
