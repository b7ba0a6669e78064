// The least that starting a container can cost: new namespaces, an overlay, a new root, exec, wait; no engine around it.
// limit LOWER WORK PROGRAM – WORK holds folders upper, work and merged; PROGRAM is a path below LOWER.
#define _GNU_SOURCE
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static void check(int result, const char *what) {
    if (result < 0) {
        perror(what);
        _exit(125);
    }
}

static char stack[1 << 16];

static int inside(void *argument) {
    char **arguments = argument, options[8192];
    check(mount(NULL, "/", NULL, MS_REC | MS_SLAVE, NULL), "slave mounts");
    snprintf(options, sizeof options, "lowerdir=%s,upperdir=%s/upper,workdir=%s/work", arguments[1], arguments[2], arguments[2]);
    check(chdir(arguments[2]), "work folder");
    check(mount("overlay", "merged", "overlay", 0, options), "overlay");
    check(chdir("merged"), "merged");
    check(syscall(SYS_pivot_root, ".", "."), "pivot_root");
    check(umount2(".", MNT_DETACH), "umount of the old root");
    check(mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL), "proc");
    char *const program[] = {arguments[3], NULL}, *const environment[] = {"PATH=/bin", NULL};
    check(execve(program[0], program, environment), "exec");
    return 125;
}

int main(int count, char **arguments) {
    if (count != 4) return 125;
    int flags = CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_VFORK | CLONE_VM | SIGCHLD;
    int status, child = clone(inside, stack + sizeof stack, flags, arguments);
    check(child, "clone");
    check(waitpid(child, &status, 0), "wait");
    return WIFEXITED(status) ? WEXITSTATUS(status) : 125;
}
