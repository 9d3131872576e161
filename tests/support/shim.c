/* Preloaded into a process, makes its writes to one folder fail on demand. Compiled and used by shim.py.
 *
 * Two ways to fail: calls from `first` to `last` (counted from 1 since `shim_arm`, writes and syncs alike) give an error; or, while a
 * file called MODELGATES_SHIM_FULL exists, the disk is full: writes beyond a file's end give ENOSPC, all others succeed, as they do on
 * a disk where the space of a file is taken already. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <limits.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char folder[PATH_MAX];
static const char *full_flag;
static atomic_long calls, first, last;
static atomic_int error_number;

__attribute__((constructor)) static void begin(void) {
    const char *named = getenv("MODELGATES_SHIM_FOLDER");
    full_flag = getenv("MODELGATES_SHIM_FULL");
    if (named) snprintf(folder, sizeof folder, "%s/", named);
}

void shim_arm(const char *where, long from, long until, int number) {
    snprintf(folder, sizeof folder, "%s/", where);
    atomic_store(&calls, 0);
    atomic_store(&error_number, number);
    atomic_store(&first, from);
    atomic_store(&last, until);
}

long shim_calls(void) { return atomic_load(&calls); }

static int watched(int fd) {
    char link[64], path[PATH_MAX];
    if (!folder[0]) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 0) return 0;
    path[length] = 0;
    return strncmp(path, folder, strlen(folder)) == 0;
}

/* The error that this call is to give, or 0. `end` is where a write ends; 0 for a sync, below 0 for a write at the file's own place. */
static int fails(int fd, off_t end) {
    int kept = errno, number = 0;
    if (watched(fd)) {
        long call = atomic_fetch_add(&calls, 1) + 1;
        if (call >= atomic_load(&first) && call <= atomic_load(&last)) number = atomic_load(&error_number);
        if (end && full_flag && access(full_flag, F_OK) == 0) {
            struct stat facts;
            if (end < 0) end = lseek(fd, 0, SEEK_CUR) - end;
            if (fstat(fd, &facts) == 0 && end > facts.st_size) number = ENOSPC;
        }
    }
    errno = kept;
    return number;
}

#define REAL(name) static __typeof__(&name) real; if (!real) real = (__typeof__(&name))dlsym(RTLD_NEXT, #name)
#define FAIL_OR(fd, end, call) do { int number = fails(fd, end); if (number) { errno = number; return -1; } return call; } while (0)

ssize_t write(int fd, const void *data, size_t size) {
    REAL(write);
    FAIL_OR(fd, -(off_t)size, real(fd, data, size));
}

ssize_t pwrite(int fd, const void *data, size_t size, off_t at) {
    REAL(pwrite);
    FAIL_OR(fd, at + (off_t)size, real(fd, data, size, at));
}

ssize_t pwrite64(int fd, const void *data, size_t size, off64_t at) {
    REAL(pwrite64);
    FAIL_OR(fd, (off_t)at + (off_t)size, real(fd, data, size, at));
}

int fsync(int fd) {
    REAL(fsync);
    FAIL_OR(fd, 0, real(fd));
}

int fdatasync(int fd) {
    REAL(fdatasync);
    FAIL_OR(fd, 0, real(fd));
}
