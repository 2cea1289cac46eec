// The first program of a Linux system that exists for one other program: opens that one's standard files, starts it, waits for it,
// and leaves through the debug-exit port with its exit status. No C library, no floating point.
//
// /pagewalk/arguments     where the program is, then its arguments from the zeroth on, each ended by a NUL
// /pagewalk/environment   its environment, likewise
// /pagewalk/input         its standard input; without it, that is the terminal
// /pagewalk/output        is there if standard output is a pipe, whose bytes go to the debug console; else it is the terminal
// /pagewalk/errors        is there if standard error is one, whose bytes go to the firmware's console; else it is the terminal
// /pagewalk/window        the terminal's size, as TIOCSWINSZ takes it
//
// The terminal is the first serial port.

typedef unsigned int u32;

enum { EXIT = 1, FORK = 2, READ = 3, WRITE = 4, OPEN = 5, CLOSE = 6, WAITPID = 7, EXECVE = 11, CHDIR = 12, MOUNT = 21, MKDIR = 39,
       PIPE = 42, IOCTL = 54, FCNTL = 55, DUP2 = 63, SETSID = 66, SETHOSTNAME = 74, SYMLINK = 83, SOCKETCALL = 102, IOPL = 110, POLL = 168 };
enum { O_RDONLY = 0, O_RDWR = 2, O_NOCTTY = 0400, O_NONBLOCK = 04000, F_SETFL = 4, WNOHANG = 1, POLLIN = 1 };
enum { TCGETS = 0x5401, TCSETS = 0x5402, TCSBRK = 0x5409, TIOCSCTTY = 0x540e, TIOCSWINSZ = 0x5414, SIOCSIFFLAGS = 0x8914 };
enum { SPEED_MASK = 010017, B115200 = 010002 };
enum { SOCKET = 1, AF_INET = 2, SOCK_DGRAM = 2, IFF_UP_RUNNING = 0x41 };
enum { DEBUG_CONSOLE = 0xe9, FIRMWARE_CONSOLE = 0x402, DEBUG_EXIT = 0xf4 };
// as a shell says that a file was there and could not be started
enum { NOT_STARTED = 126 };

struct termios {
    u32 input, output, control, local;
    unsigned char line, characters[19];
};

// A pipe from the program to a port of ours.
struct stream {
    long pipe;
    u32 port;
};

static long call(long number, long a, long b, long c, long d, long e)
{
    long result;
    __asm__ volatile("int $0x80" : "=a"(result) : "a"(number), "b"(a), "c"(b), "d"(c), "S"(d), "D"(e) : "memory");
    return result;
}

static char arguments[1 << 18], environment[1 << 16], buffer[1 << 16];
static char *argument_list[1 << 14], *environment_list[1 << 12];

static long open(const char *path)
{
    return call(OPEN, (long)path, O_RDONLY, 0, 0, 0);
}

static void mount(const char *kind, const char *folder)
{
    call(MKDIR, (long)folder, 01777, 0, 0, 0);
    call(MOUNT, (long)kind, (long)folder, (long)kind, 0, 0);
}

static void link(const char *to, const char *path)
{
    call(SYMLINK, (long)to, (long)path, 0, 0, 0);
}

// Reads a file of strings and lists them.
static void strings(const char *path, char *text, u32 room, char **list, u32 most)
{
    u32 size = 0, count = 0;
    long file = open(path), got = 0;
    while (file >= 0 && size < room && (got = call(READ, file, (long)(text + size), room - size, 0, 0)) > 0)
        size += got;
    for (u32 at = 0; at < size && count + 1 < most; at++) {
        if (at == 0 || text[at - 1] == 0)
            list[count++] = text + at;
    }
    list[count] = 0;
    call(CLOSE, file, 0, 0, 0, 0);
}

// Opens the terminal at full speed and tells it its size.
static long open_terminal(void)
{
    struct termios settings;
    unsigned short window[4] = { 0 };
    long file = call(OPEN, (long)"/dev/ttyS0", O_RDWR | O_NOCTTY, 0, 0, 0), size = open("/pagewalk/window");
    if (call(IOCTL, file, TCGETS, (long)&settings, 0, 0) == 0) {
        settings.control = (settings.control & ~SPEED_MASK) | B115200;
        call(IOCTL, file, TCSETS, (long)&settings, 0, 0);
    }
    if (call(READ, size, (long)window, sizeof window, 0, 0) == sizeof window)
        call(IOCTL, file, TIOCSWINSZ, (long)window, 0, 0);
    return file;
}

// An output of the program: the terminal, or a pipe to a port if `path` is there. The pipe's other end is in `stream`.
static long open_output(const char *path, long terminal, u32 port, struct stream *stream)
{
    int ends[2] = { -1, -1 };
    stream->pipe = -1;
    stream->port = port;
    if (open(path) < 0 || call(PIPE, (long)ends, 0, 0, 0, 0) < 0)
        return terminal;
    call(FCNTL, ends[0], F_SETFL, O_NONBLOCK, 0, 0);
    stream->pipe = ends[0];
    return ends[1];
}

// Moves what is in the pipe to the port.
static void pump(struct stream *stream)
{
    long got;
    while (stream->pipe >= 0 && (got = call(READ, stream->pipe, (long)buffer, sizeof buffer, 0, 0)) >= 0) {
        const char *from = buffer;
        __asm__ volatile("rep outsb" : "+S"(from), "+c"(got) : "d"(stream->port) : "memory");
        if (from == buffer) {
            call(CLOSE, stream->pipe, 0, 0, 0, 0);
            stream->pipe = -1;
        }
    }
}

// Waits for the program, moving what it writes. Its wait status.
static u32 wait_for(long child, struct stream streams[2])
{
    u32 status = 0;
    for (;;) {
        int piped = streams[0].pipe >= 0 || streams[1].pipe >= 0;
        long ended = call(WAITPID, -1, (long)&status, piped ? WNOHANG : 0, 0, 0);
        // all that it wrote it wrote before it ended
        pump(&streams[0]);
        pump(&streams[1]);
        if (ended == child)
            return status;
        if (piped && ended <= 0) {
            struct { int file; short events, got; } wanted[2] = { { streams[0].pipe, POLLIN, 0 }, { streams[1].pipe, POLLIN, 0 } };
            call(POLL, (long)wanted, 2, 100, 0, 0);
        }
    }
}

static void say(const char *text)
{
    u32 length = 0;
    while (text[length])
        length++;
    call(WRITE, 2, (long)text, length, 0, 0);
}

// Brings the loopback interface up.
static void start_loopback(void)
{
    long kind[3] = { AF_INET, SOCK_DGRAM, 0 };
    struct { char name[16]; unsigned short flags; char rest[14]; } request = { "lo", IFF_UP_RUNNING, { 0 } };
    long socket = call(SOCKETCALL, SOCKET, (long)kind, 0, 0, 0);
    call(IOCTL, socket, SIOCSIFFLAGS, (long)&request, 0, 0);
    call(CLOSE, socket, 0, 0, 0, 0);
}

__attribute__((noreturn, used)) void run(void)
{
    struct stream streams[2];
    mount("proc", "/proc");
    mount("sysfs", "/sys");
    mount("devtmpfs", "/dev");
    link("/proc/self/fd", "/dev/fd");
    link("/proc/self/fd/0", "/dev/stdin");
    link("/proc/self/fd/1", "/dev/stdout");
    link("/proc/self/fd/2", "/dev/stderr");
    mount("devpts", "/dev/pts");
    mount("tmpfs", "/dev/shm");
    call(SETHOSTNAME, (long)"pagewalk", 8, 0, 0, 0);
    start_loopback();
    call(IOPL, 3, 0, 0, 0, 0);
    strings("/pagewalk/arguments", arguments, sizeof arguments, argument_list, sizeof argument_list / sizeof *argument_list);
    strings("/pagewalk/environment", environment, sizeof environment, environment_list,
            sizeof environment_list / sizeof *environment_list);
    // the three lowest numbers are the kernel's console
    long terminal = open_terminal(), input = open("/pagewalk/input");
    long output = open_output("/pagewalk/output", terminal, DEBUG_CONSOLE, &streams[0]);
    long errors = open_output("/pagewalk/errors", terminal, FIRMWARE_CONSOLE, &streams[1]);
    long child = call(FORK, 0, 0, 0, 0, 0);
    if (child == 0) {
        call(SETSID, 0, 0, 0, 0, 0);
        call(IOCTL, terminal, TIOCSCTTY, 0, 0, 0);
        call(DUP2, input >= 0 ? input : terminal, 0, 0, 0, 0);
        call(DUP2, output, 1, 0, 0, 0);
        call(DUP2, errors, 2, 0, 0, 0);
        for (int file = 3; file < 32; file++)
            call(CLOSE, file, 0, 0, 0, 0);
        call(IOPL, 0, 0, 0, 0, 0);
        call(CHDIR, (long)"/", 0, 0, 0, 0);
        // the first is the file's place, the second what it is told that it was called
        call(EXECVE, (long)argument_list[0], (long)(argument_list + 1), (long)environment_list, 0, 0);
        say("pagewalk: the kernel cannot start the program\n");
        call(EXIT, NOT_STARTED, 0, 0, 0, 0);
    }
    if (output != terminal)
        call(CLOSE, output, 0, 0, 0, 0);
    if (errors != terminal)
        call(CLOSE, errors, 0, 0, 0, 0);
    u32 status = wait_for(child, streams);
    // all that went to the terminal is sent before the machine stops
    call(IOCTL, terminal, TCSBRK, 1, 0, 0);
    // as a shell tells it: the exit status, or 128 and the signal
    u32 told = status & 0x7f ? 128 + (status & 0x7f) : status >> 8 & 0xff;
    __asm__ volatile("outb %%al, %%dx" : : "a"(told), "d"(DEBUG_EXIT));
    for (;;)
        call(EXIT, told, 0, 0, 0, 0);
}

__asm__(".globl start\nstart:\n    xorl %ebp, %ebp\n    andl $-16, %esp\n    call run\n");
