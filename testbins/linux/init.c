// The first program of a Linux system that exists for one other program: opens its standard files, starts it, waits for it, and
// leaves through the debug-exit port with its exit status. Standard input is a file that was brought along, or the first serial
// port; standard output is the first serial port; standard error is the second. No C library, no floating point.
//
// /pagewalk/arguments     the program's arguments, each ended by a NUL
// /pagewalk/environment   its environment, likewise
// /pagewalk/input         its standard input, unless that is a terminal
// /pagewalk/program       the program

typedef unsigned int u32;

enum { EXIT = 1, FORK = 2, READ = 3, WRITE = 4, OPEN = 5, WAITPID = 7, CLOSE = 6, EXECVE = 11, CHDIR = 12, MOUNT = 21, IOCTL = 54, DUP2 = 63,
       SETSID = 66, IOPERM = 101 };
enum { O_RDONLY = 0, O_RDWR = 2, O_NOCTTY = 0400 };
enum { TCGETS = 0x5401, TCSETS = 0x5402, TCSBRK = 0x5409, TIOCSCTTY = 0x540e };
enum { DEBUG_EXIT = 0xf4, NOT_STARTED = 126 };

struct termios {
    u32 input, output, control, local;
    unsigned char line, characters[19];
};

static long call(long number, long a, long b, long c, long d, long e)
{
    long result;
    __asm__ volatile("int $0x80" : "=a"(result) : "a"(number), "b"(a), "c"(b), "d"(c), "S"(d), "D"(e) : "memory");
    return result;
}

static char arguments[1 << 18], environment[1 << 16];
static char *argument_list[1 << 14], *environment_list[1 << 12];

// Reads a file of strings and lists them.
static void strings(const char *path, char *text, u32 room, char **list, u32 most)
{
    u32 size = 0, count = 0;
    long file = call(OPEN, (long)path, O_RDONLY, 0, 0, 0), got = 0;
    while (file >= 0 && size < room && (got = call(READ, file, (long)(text + size), room - size, 0, 0)) > 0)
        size += got;
    for (u32 at = 0; at < size && count + 1 < most; at++) {
        if (at == 0 || text[at - 1] == 0)
            list[count++] = text + at;
    }
    list[count] = 0;
}

// Opens a serial port; `raw` lets every byte through as it is.
static long serial(const char *path, int raw)
{
    struct termios settings;
    long file = call(OPEN, (long)path, O_RDWR | O_NOCTTY, 0, 0, 0);
    if (file >= 0 && raw && call(IOCTL, file, TCGETS, (long)&settings, 0, 0) == 0) {
        settings.input = settings.output = settings.local = 0;
        call(IOCTL, file, TCSETS, (long)&settings, 0, 0);
    }
    return file;
}

static void say(const char *text)
{
    u32 length = 0;
    while (text[length])
        length++;
    call(WRITE, 2, (long)text, length, 0, 0);
}

static __attribute__((noreturn)) void leave(u32 status)
{
    call(IOCTL, 1, TCSBRK, 1, 0, 0);
    call(IOCTL, 2, TCSBRK, 1, 0, 0);
    call(IOPERM, DEBUG_EXIT, 1, 1, 0, 0);
    __asm__ volatile("outb %%al, %%dx" : : "a"(status), "d"(DEBUG_EXIT));
    for (;;)
        call(EXIT, status, 0, 0, 0, 0);
}

__attribute__((noreturn, used)) void run(void)
{
    u32 status = 0;
    call(MOUNT, (long)"proc", (long)"/proc", (long)"proc", 0, 0);
    call(MOUNT, (long)"sysfs", (long)"/sys", (long)"sysfs", 0, 0);
    call(MOUNT, (long)"devtmpfs", (long)"/dev", (long)"devtmpfs", 0, 0);
    long input = call(OPEN, (long)"/pagewalk/input", O_RDONLY, 0, 0, 0);
    long output = serial("/dev/ttyS0", input >= 0);
    long errors = serial("/dev/ttyS1", input >= 0);
    // the three lowest numbers may be taken already, by the kernel's console
    call(DUP2, output, 11, 0, 0, 0);
    call(DUP2, input >= 0 ? errors : output, 12, 0, 0, 0);
    call(DUP2, input >= 0 ? input : output, 0, 0, 0, 0);
    call(DUP2, 11, 1, 0, 0, 0);
    call(DUP2, 12, 2, 0, 0, 0);
    strings("/pagewalk/arguments", arguments, sizeof arguments - 1, argument_list, sizeof argument_list / sizeof *argument_list);
    strings("/pagewalk/environment", environment, sizeof environment - 1, environment_list,
            sizeof environment_list / sizeof *environment_list);
    long child = call(FORK, 0, 0, 0, 0, 0);
    if (child == 0) {
        call(SETSID, 0, 0, 0, 0, 0);
        if (input < 0)
            call(IOCTL, 0, TIOCSCTTY, 0, 0, 0);
        for (int file = 3; file < 16; file++)
            call(CLOSE, file, 0, 0, 0, 0);
        call(CHDIR, (long)"/", 0, 0, 0, 0);
        call(EXECVE, (long)"/pagewalk/program", (long)argument_list, (long)environment_list, 0, 0);
        say("the kernel cannot start the program\n");
        call(EXIT, NOT_STARTED, 0, 0, 0, 0);
    }
    while (child > 0 && call(WAITPID, -1, (long)&status, 0, 0, 0) != child)
        ;
    // as a shell tells it: the exit status, or 128 and the signal
    leave(status & 0x7f ? 128 + (status & 0x7f) : status >> 8 & 0xff);
}

__asm__(".globl start\nstart:\n    xorl %ebp, %ebp\n    andl $-16, %esp\n    call run\n");
