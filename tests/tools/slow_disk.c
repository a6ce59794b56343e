/* A disk that is slow or broken, for idm under test: preloaded, it delays fsync and fdatasync by SLOW_DISK_MS
 * milliseconds, and lets them fail with EIO while the file named by SLOW_DISK_BROKEN exists. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

static int sync_with(const char *name, int fd) {
    const char *delay = getenv("SLOW_DISK_MS"), *broken = getenv("SLOW_DISK_BROKEN");
    long ms = delay ? atol(delay) : 0;
    struct timespec pause = {ms / 1000, (ms % 1000) * 1000000};
    nanosleep(&pause, NULL);
    if (broken && access(broken, F_OK) == 0) {
        errno = EIO;
        return -1;
    }
    int (*real)(int) = (int (*)(int))dlsym(RTLD_NEXT, name);
    return real(fd);
}

int fsync(int fd) { return sync_with("fsync", fd); }
int fdatasync(int fd) { return sync_with("fdatasync", fd); }
