// Signals: faults with their addresses and codes, repaired and restarted or jumped out of; an alternate stack; timers; masks; a
// child's end; floating-point exceptions; and registers that live through it all.
#include <fenv.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <ucontext.h>
#include <unistd.h>

static sigjmp_buf back;
static char *page;
static volatile sig_atomic_t seen, seen_code, on_other_stack;
static void *volatile seen_address;
static char other_stack[1 << 16];

static void note(int number, siginfo_t *about, void *context)
{
    (void)context;
    char here;
    seen = number;
    seen_code = about->si_code;
    seen_address = about->si_addr;
    on_other_stack = &here >= other_stack && &here < other_stack + sizeof other_stack;
}

static void jump(int number, siginfo_t *about, void *context)
{
    note(number, about, context);
    siglongjmp(back, 1);
}

static void repair(int number, siginfo_t *about, void *context)
{
    note(number, about, context);
    mprotect(page, 4096, PROT_READ | PROT_WRITE);
}

static void skip(int number, siginfo_t *about, void *context)
{
    note(number, about, context);
    // over the two bytes of UD2
    ((ucontext_t *)context)->uc_mcontext.gregs[REG_EIP] += 2;
}

static void on(int number, void (*handler)(int, siginfo_t *, void *), int flags)
{
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_sigaction = handler;
    action.sa_flags = SA_SIGINFO | flags;
    sigaction(number, &action, 0);
}

static void tell(const char *what)
{
    printf("%s: signal %d, code %d, own stack %d\n", what, seen, seen_code, !on_other_stack);
    seen = seen_code = 0;
}

static int divide(int a, int b)
{
    return a / b;
}

int main(int count, char **arguments)
{
    stack_t stack = { .ss_sp = other_stack, .ss_size = sizeof other_stack };
    sigaltstack(&stack, 0);
    volatile int zero = count - count;
    volatile char *volatile nowhere = (char *)0x10;

    on(SIGFPE, jump, 0);
    if (sigsetjmp(back, 1) == 0)
        printf("%d\n", divide(7, zero));
    tell("division by zero");

    // the exception is raised by the floating-point instruction behind the one at fault
    if (sigsetjmp(back, 1) == 0) {
        feenableexcept(FE_DIVBYZERO);
        volatile long double x = 1.0L / zero;
        volatile long double y = x + 1;
        (void)y;
    }
    tell("x87");
    fedisableexcept(FE_ALL_EXCEPT);
    feclearexcept(FE_ALL_EXCEPT);

    on(SIGILL, skip, 0);
    __asm__ volatile("ud2");
    tell("ud2");

    page = mmap(0, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    on(SIGSEGV, repair, SA_ONSTACK);
    ((volatile char *)page)[123] = 'x';
    printf("the page was repaired at +%td: %c\n", (char *)seen_address - page, page[123]);
    tell("a page that is protected");

    on(SIGSEGV, jump, SA_ONSTACK);
    if (sigsetjmp(back, 1) == 0)
        *nowhere = 1;
    printf("address %p\n", seen_address);
    tell("a page that is not there");
    if (sigsetjmp(back, 1) == 0)
        __asm__ volatile("cli");
    tell("a privileged instruction");

    on(SIGTRAP, note, 0);
    __asm__ volatile("int3");
    tell("breakpoint");

    on(SIGUSR1, note, 0);
    sigset_t set, pending;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    sigprocmask(SIG_BLOCK, &set, 0);
    raise(SIGUSR1);
    sigpending(&pending);
    printf("blocked: pending %d, seen %d\n", sigismember(&pending, SIGUSR1), seen);
    sigprocmask(SIG_UNBLOCK, &set, 0);
    tell("unblocked");

    // registers of both units live through a hundred interruptions
    on(SIGALRM, note, 0);
    struct itimerval often = { { 0, 2000 }, { 0, 2000 } }, never = { { 0, 0 }, { 0, 0 } };
    setitimer(ITIMER_REAL, &often, 0);
    double sum = 0;
    long double wide = 0;
    unsigned mixed = 1;
    for (int i = 1; i < 3000000; i++) {
        sum += 1.0 / i;
        wide += 1.0L / i;
        mixed = mixed * 69069 + (i ^ mixed >> 13);
    }
    setitimer(ITIMER_REAL, &never, 0);
    printf("alarmed %d: %.17g %.21Lg %u\n", seen == SIGALRM, sum, wide, mixed);
    seen = 0;

    on(SIGCHLD, note, 0);
    fflush(stdout);
    pid_t child = fork();
    if (child == 0)
        abort();
    int status = 0;
    while (waitpid(child, &status, 0) != child)
        ;
    printf("the child: signalled %d by %d, SIGCHLD %d\n", WIFSIGNALED(status), WTERMSIG(status), seen == SIGCHLD);

    if (count > 1) {
        fflush(stdout);
        signal(SIGTERM, SIG_DFL);
        kill(getpid(), strcmp(arguments[1], "term") ? SIGABRT : SIGTERM);
    }
    return 0;
}
