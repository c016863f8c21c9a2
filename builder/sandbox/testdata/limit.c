// limit RESOURCE VALUE sets a resource limit of process 1.
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

static const struct {
	const char *name;
	int resource;
} limits[] = {
	{"CORE", RLIMIT_CORE}, {"FSIZE", RLIMIT_FSIZE}, {"NOFILE", RLIMIT_NOFILE},
};

int main(int argc, char **argv)
{
	for (size_t i = 0; argc == 3 && i < sizeof(limits) / sizeof(*limits); i++) {
		rlim_t value = strtoull(argv[2], NULL, 10);
		struct rlimit l = {value, value};

		if (strcmp(argv[1], limits[i].name))
			continue;
		if (prlimit(1, limits[i].resource, &l, NULL) == 0)
			return 0;
		perror("prlimit");
		return 1;
	}
	fputs("usage: limit RESOURCE VALUE\n", stderr);
	return 2;
}
