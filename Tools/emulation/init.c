// The first and only process of the emulated machine of Tools/check-newer-processor: runs the lines of /commands in /run, says how each ended
// on the serial line, and turns the machine off.
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/wait.h>
#include <unistd.h>

static void run(const char *line) {
    printf("### %s\n", line);
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        char words[1024], *arguments[64];
        int n = 0;
        snprintf(words, sizeof words, "%s", line);
        for (char *word = strtok(words, " "); word && n < 63; word = strtok(NULL, " ")) arguments[n++] = word;
        arguments[n] = NULL;
        setenv("LD_LIBRARY_PATH", "/lib", 1);
        setenv("HOME", "/tmp", 1);
        setenv("TERM", "dumb", 1);
        if (chdir("/run") == 0) execv(arguments[0], arguments);
        perror(arguments[0]);
        _exit(99);
    }
    int status = 0;
    waitpid(child, &status, 0);
    printf("### status %d\n", WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status));
    fflush(stdout);
}

int main(void) {
    mount("proc", "/proc", "proc", 0, "");
    mount("sys", "/sys", "sysfs", 0, "");
    mount("dev", "/dev", "devtmpfs", 0, "");
    int serial = open("/dev/ttyS0", O_RDWR);
    if (serial >= 0) for (int i = 0; i < 3; i++) dup2(serial, i);
    FILE *commands = fopen("/commands", "r");
    char line[1024];
    while (commands && fgets(line, sizeof line, commands)) {
        line[strcspn(line, "\n")] = 0;
        if (*line) run(line);
    }
    printf("### end\n");
    fflush(stdout);
    sleep(1);
    reboot(RB_POWER_OFF);
    for (;;) pause();
}
