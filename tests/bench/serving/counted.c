/* Runs a program and adds the processor time of it and all it waited for to a file, since fcgiwrap
 * lets nobody wait for its children.
 *
 *   counted      reads COUNTED_PROGRAM and COUNTED_FILE from the environment
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

int main(void) {
    const char *program = getenv("COUNTED_PROGRAM"), *path = getenv("COUNTED_FILE");
    if (!program || !path)
        return 2;
    signal(SIGCHLD, SIG_DFL);
    pid_t child = fork();
    if (child == 0) {
        execl(program, program, (char *)NULL);
        _exit(127);
    }
    int status = 0;
    struct rusage used;
    if (child < 0 || wait4(child, &status, 0, &used) < 0)
        return 2;
    char line[64];
    int len = snprintf(line, sizeof line, "%ld\n",
                       (used.ru_utime.tv_sec + used.ru_stime.tv_sec) * 1000000L + used.ru_utime.tv_usec + used.ru_stime.tv_usec);
    int file = open(path, O_WRONLY | O_APPEND | O_CREAT, 0600);
    if (file < 0 || write(file, line, len) != len)
        return 2;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 1;
}
