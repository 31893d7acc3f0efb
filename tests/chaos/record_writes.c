/* Records every write, sync and change of names below one folder, as the process makes them: loaded by LD_PRELOAD.
 *
 * RECORD_FOLDER   the folder that is watched, absolute and without symbolic links
 * RECORD_FILE     what to append to; the process id is added to the name
 *
 * One record per finished call, as `recorded_writes.py` reads it: a header (see `struct header`), the bytes written, and
 * up to two paths. Times are CLOCK_MONOTONIC in nanoseconds, taken before and after the call, so that calls of several
 * threads keep their true order. A way of writing that cannot be recorded (a writable shared map, sendfile) is recorded
 * as UNSEEN, and the reader refuses it.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

enum { WRITE = 1, RESIZE, SHRINK, CREATE, RENAME, REMOVE, SYNC, SYNC_FOLDER, UNSEEN };
enum { DESCRIPTORS_MAX = 65536, BUFFERS_MAX = 1024 };
enum { WATCHED = 1, DURABLE = 2, APPENDS = 4, FOLDER = 8 };

struct header {
    uint32_t magic, kind;
    uint64_t began, ended, inode, offset;
    uint32_t bytes, path_bytes, other_bytes, durable;
};

static uint8_t descriptors[DESCRIPTORS_MAX];
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static int output = -1;
static pid_t output_owner;

static uint64_t now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

static void open_output(void) {
    char name[PATH_MAX];
    snprintf(name, sizeof name, "%s.%d", getenv("RECORD_FILE"), (int)getpid());
    output = (int)syscall(SYS_openat, AT_FDCWD, name, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    output_owner = getpid();
    if (output < 0) abort();
}

static void record(struct header header, const struct iovec *data, int count, const char *path, const char *other) {
    struct iovec parts[BUFFERS_MAX + 3];
    size_t left = header.bytes;
    int used = 1;
    header.magic = 0x52455743u;
    header.path_bytes = path ? (uint32_t)strlen(path) : 0;
    header.other_bytes = other ? (uint32_t)strlen(other) : 0;
    parts[0] = (struct iovec){&header, sizeof header};
    for (int i = 0; i < count && left > 0; i++) {
        size_t size = data[i].iov_len < left ? data[i].iov_len : left;
        parts[used++] = (struct iovec){data[i].iov_base, size};
        left -= size;
    }
    if (path) parts[used++] = (struct iovec){(void *)path, header.path_bytes};
    if (other) parts[used++] = (struct iovec){(void *)other, header.other_bytes};
    pthread_mutex_lock(&lock);
    if (output < 0 || output_owner != getpid()) open_output();
    for (int done = 0; done < used; done += 1000) {
        int batch = used - done < 1000 ? used - done : 1000;
        if (syscall(SYS_writev, output, parts + done, batch) < 0) abort();
    }
    pthread_mutex_unlock(&lock);
}

static int below(const char *path) {
    const char *folder = getenv("RECORD_FOLDER");
    size_t length = folder ? strlen(folder) : 0;
    return length && !strncmp(path, folder, length) && (path[length] == '/' || !path[length]);
}

/* The absolute path of `name` under `at`, or "" if it cannot be told. The last part may not exist yet. */
static const char *resolve(int at, const char *name, char *into) {
    char link[64], base[PATH_MAX] = "", whole[2 * PATH_MAX];
    if (name[0] != '/') {
        if (at == AT_FDCWD) {
            if (!getcwd(base, sizeof base)) return strcpy(into, "");
        } else {
            snprintf(link, sizeof link, "/proc/self/fd/%d", at);
            ssize_t size = readlink(link, base, sizeof base - 1);
            base[size < 0 ? 0 : size] = 0;
        }
    }
    snprintf(whole, sizeof whole, "%s%s%s", base, base[0] ? "/" : "", name);
    whole[PATH_MAX - 1] = 0;
    return strcpy(into, whole);
}

static uint64_t inode_of(int descriptor) {
    struct stat status;
    return fstat(descriptor, &status) ? 0 : (uint64_t)status.st_ino;
}

static int watched(int descriptor) {
    return descriptor >= 0 && descriptor < DESCRIPTORS_MAX && (descriptors[descriptor] & WATCHED);
}

static void opened(int descriptor, int flags, const char *path, int existed, uint64_t began) {
    if (descriptor < 0 || descriptor >= DESCRIPTORS_MAX) return;
    descriptors[descriptor] = 0;
    if (!below(path)) return;
    struct stat status;
    if (fstat(descriptor, &status)) return;
    int saved = errno;
    descriptors[descriptor] = WATCHED;
    if (S_ISDIR(status.st_mode)) descriptors[descriptor] |= FOLDER;
    if (flags & O_DSYNC) descriptors[descriptor] |= DURABLE;
    if (flags & O_APPEND) descriptors[descriptor] |= APPENDS;
    struct header header = {.began = began, .ended = now(), .inode = (uint64_t)status.st_ino};
    if (!existed && (flags & O_CREAT)) {
        header.kind = CREATE;
        record(header, NULL, 0, path, NULL);
    }
    if (existed && (flags & O_TRUNC)) {
        header.kind = SHRINK;
        record(header, NULL, 0, path, NULL);
    }
    errno = saved;
}

static int open_at(int at, const char *name, int flags, mode_t mode) {
    char path[2 * PATH_MAX];
    resolve(at, name, path);
    struct stat status;
    int saved = errno, existed = !fstatat(at, name, &status, 0);
    errno = saved;
    uint64_t began = now();
    int descriptor = (int)syscall(SYS_openat, at, name, flags, mode);
    if (descriptor >= 0) opened(descriptor, flags, path, existed, began);
    return descriptor;
}

static mode_t mode_of(int flags, va_list rest) { return flags & (O_CREAT | O_TMPFILE) ? va_arg(rest, mode_t) : 0; }

#define OPEN(name)                                   \
    int name(const char *path, int flags, ...) {     \
        va_list rest;                                \
        va_start(rest, flags);                       \
        mode_t mode = mode_of(flags, rest);          \
        va_end(rest);                                \
        return open_at(AT_FDCWD, path, flags, mode); \
    }
#define OPENAT(name)                                     \
    int name(int at, const char *path, int flags, ...) { \
        va_list rest;                                    \
        va_start(rest, flags);                           \
        mode_t mode = mode_of(flags, rest);              \
        va_end(rest);                                    \
        return open_at(at, path, flags, mode);           \
    }
OPEN(open)
OPEN(open64)
OPENAT(openat)
OPENAT(openat64)
int creat(const char *path, mode_t mode) { return open_at(AT_FDCWD, path, O_CREAT | O_WRONLY | O_TRUNC, mode); }

int close(int descriptor) {
    if (descriptor >= 0 && descriptor < DESCRIPTORS_MAX) descriptors[descriptor] = 0;
    return (int)syscall(SYS_close, descriptor);
}

static void written(int descriptor, const struct iovec *data, int count, uint64_t offset, ssize_t size, uint64_t began,
                    int durable) {
    if (size <= 0) return;
    int saved = errno;
    struct header header = {.kind = WRITE, .began = began, .ended = now(), .inode = inode_of(descriptor)};
    header.offset = offset;
    header.bytes = (uint32_t)size;
    header.durable = durable || (descriptors[descriptor] & DURABLE);
    record(header, data, count, NULL, NULL);
    errno = saved;
}

/* Where a write without an offset goes. */
static uint64_t place_of(int descriptor) {
    struct stat status;
    if (descriptors[descriptor] & APPENDS) return fstat(descriptor, &status) ? 0 : (uint64_t)status.st_size;
    return (uint64_t)lseek(descriptor, 0, SEEK_CUR);
}

static ssize_t write_at(int descriptor, const struct iovec *data, int count, off_t offset, int flags) {
    uint64_t began = now();
    ssize_t size = syscall(SYS_pwritev2, descriptor, data, count, (unsigned long)offset, 0ul, flags);
    if (watched(descriptor)) written(descriptor, data, count, (uint64_t)offset, size, began, flags & RWF_DSYNC);
    return size;
}

#define PWRITE(name)                                                                 \
    ssize_t name(int descriptor, const void *bytes, size_t size, off_t offset) {     \
        struct iovec data = {(void *)bytes, size};                                   \
        return write_at(descriptor, &data, 1, offset, 0);                            \
    }
#define PWRITEV(name)                                                                \
    ssize_t name(int descriptor, const struct iovec *data, int count, off_t offset) { \
        return write_at(descriptor, data, count, offset, 0);                         \
    }
#define PWRITEV2(name)                                                                          \
    ssize_t name(int descriptor, const struct iovec *data, int count, off_t offset, int flags) { \
        return write_at(descriptor, data, count, offset, flags);                                \
    }
PWRITE(pwrite)
PWRITE(pwrite64)
PWRITEV(pwritev)
PWRITEV(pwritev64)
PWRITEV2(pwritev2)
PWRITEV2(pwritev64v2)

ssize_t write(int descriptor, const void *bytes, size_t size) {
    if (!watched(descriptor)) return syscall(SYS_write, descriptor, bytes, size);
    struct iovec data = {(void *)bytes, size};
    uint64_t offset = place_of(descriptor), began = now();
    ssize_t done = syscall(SYS_write, descriptor, bytes, size);
    written(descriptor, &data, 1, offset, done, began, 0);
    return done;
}

ssize_t writev(int descriptor, const struct iovec *data, int count) {
    if (!watched(descriptor)) return syscall(SYS_writev, descriptor, data, count);
    uint64_t offset = place_of(descriptor), began = now();
    ssize_t done = syscall(SYS_writev, descriptor, data, count);
    written(descriptor, data, count, offset, done, began, 0);
    return done;
}

static void noted(int descriptor, uint32_t kind, uint64_t offset, uint64_t began) {
    int saved = errno;
    char path[2 * PATH_MAX];
    struct header header = {.kind = kind, .began = began, .ended = now(), .inode = inode_of(descriptor)};
    header.offset = offset;
    if (kind == SYNC && (descriptors[descriptor] & FOLDER)) header.kind = SYNC_FOLDER;
    record(header, NULL, 0, resolve(descriptor, ".", path), NULL);
    errno = saved;
}

#define SYNCING(name, number)                                      \
    int name(int descriptor) {                                     \
        uint64_t began = now();                                    \
        int failed = (int)syscall(number, descriptor);             \
        if (!failed && watched(descriptor)) noted(descriptor, SYNC, 0, began); \
        return failed;                                             \
    }
SYNCING(fsync, SYS_fsync)
SYNCING(fdatasync, SYS_fdatasync)

#define FTRUNCATE(name)                                            \
    int name(int descriptor, off_t length) {                       \
        uint64_t began = now();                                    \
        int failed = (int)syscall(SYS_ftruncate, descriptor, length); \
        if (!failed && watched(descriptor)) noted(descriptor, SHRINK, (uint64_t)length, began); \
        return failed;                                             \
    }
FTRUNCATE(ftruncate)
FTRUNCATE(ftruncate64)

#define POSIX_FALLOCATE(name)                                      \
    int name(int descriptor, off_t offset, off_t length) {         \
        uint64_t began = now();                                    \
        int saved = errno;                                         \
        int failed = syscall(SYS_fallocate, descriptor, 0, offset, length) ? errno : 0; \
        if (!failed && watched(descriptor)) noted(descriptor, RESIZE, (uint64_t)(offset + length), began); \
        errno = saved;                                             \
        return failed;                                             \
    }
POSIX_FALLOCATE(posix_fallocate)
POSIX_FALLOCATE(posix_fallocate64)

#define FALLOCATE(name)                                            \
    int name(int descriptor, int mode, off_t offset, off_t length) { \
        uint64_t began = now();                                    \
        int failed = (int)syscall(SYS_fallocate, descriptor, mode, offset, length); \
        if (!failed && watched(descriptor)) noted(descriptor, mode ? UNSEEN : RESIZE, (uint64_t)(offset + length), began); \
        return failed;                                             \
    }
FALLOCATE(fallocate)
FALLOCATE(fallocate64)

static int rename_at(int old_at, const char *old, int new_at, const char *new, unsigned flags) {
    char from[2 * PATH_MAX], to[2 * PATH_MAX];
    struct stat status;
    resolve(old_at, old, from);
    resolve(new_at, new, to);
    uint64_t began = now();
    int failed = (int)syscall(SYS_renameat2, old_at, old, new_at, new, flags), saved = errno;
    if (!failed && (below(from) || below(to)) && !fstatat(new_at, new, &status, AT_SYMLINK_NOFOLLOW)) {
        uint32_t kind = flags || S_ISDIR(status.st_mode) ? UNSEEN : RENAME;
        struct header header = {.kind = kind, .began = began, .ended = now(), .inode = (uint64_t)status.st_ino};
        record(header, NULL, 0, to, from);
    }
    errno = saved;
    return failed;
}
int rename(const char *old, const char *new) { return rename_at(AT_FDCWD, old, AT_FDCWD, new, 0); }
int renameat(int old_at, const char *old, int new_at, const char *new) { return rename_at(old_at, old, new_at, new, 0); }
int renameat2(int old_at, const char *old, int new_at, const char *new, unsigned flags) {
    return rename_at(old_at, old, new_at, new, flags);
}

static int unlink_at(int at, const char *name, int flags) {
    char path[2 * PATH_MAX];
    resolve(at, name, path);
    uint64_t began = now();
    int failed = (int)syscall(SYS_unlinkat, at, name, flags), saved = errno;
    if (!failed && below(path) && !(flags & AT_REMOVEDIR)) {
        struct header header = {.kind = REMOVE, .began = began, .ended = now()};
        record(header, NULL, 0, path, NULL);
    }
    errno = saved;
    return failed;
}
int unlink(const char *path) { return unlink_at(AT_FDCWD, path, 0); }
int unlinkat(int at, const char *path, int flags) { return unlink_at(at, path, flags); }

#define MMAP(name)                                                                             \
    void *name(void *address, size_t length, int protection, int flags, int descriptor, off_t offset) { \
        void *mapped = (void *)syscall(SYS_mmap, address, length, protection, flags, descriptor, offset); \
        if (mapped != MAP_FAILED && (flags & MAP_SHARED) && (protection & PROT_WRITE) && watched(descriptor)) \
            unseen(descriptor);                                                                \
        return mapped;                                                                         \
    }
static void unseen(int descriptor) {
    char link[64], path[PATH_MAX];
    snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
    ssize_t size = readlink(link, path, sizeof path - 1);
    path[size < 0 ? 0 : size] = 0;
    struct header header = {.kind = UNSEEN, .began = now(), .ended = now(), .inode = inode_of(descriptor)};
    record(header, NULL, 0, path, NULL);
}
MMAP(mmap)
MMAP(mmap64)

#define SENDFILE(name)                                                          \
    ssize_t name(int to, int from, off_t *offset, size_t count) {               \
        if (watched(to)) unseen(to);                                            \
        return syscall(SYS_sendfile, to, from, offset, count);                  \
    }
SENDFILE(sendfile)
SENDFILE(sendfile64)
ssize_t copy_file_range(int from, off_t *from_at, int to, off_t *to_at, size_t count, unsigned flags) {
    if (watched(to)) unseen(to);
    return syscall(SYS_copy_file_range, from, from_at, to, to_at, count, flags);
}
