/* Runs cases natively, for comparison with pagewalk. Started by native.rs, which sends a world and then batches of cases
   on standard input and reads what came of them from standard output. No libc: nothing but what stands here is in the
   process, so that a case can disturb as little as possible. */

#include <asm/ldt.h>
#include <asm/unistd_32.h>
#include <stdint.h>

typedef uint8_t u8;
typedef uint16_t u16;
typedef uint32_t u32;

/* ---- system calls */

static inline int call(int number, u32 a, u32 b, u32 c, u32 d, u32 e)
{
    int result;
    __asm__ volatile("int $0x80"
                     : "=a"(result)
                     : "a"(number), "b"(a), "c"(b), "d"(c), "S"(d), "D"(e)
                     : "memory");
    return result;
}

static inline int call6(int number, u32 a, u32 b, u32 c, u32 d, u32 e, u32 f)
{
    u32 arguments[2] = { number, f };
    int result;
    __asm__ volatile("pushl %%ebp; movl 4(%%eax), %%ebp; movl (%%eax), %%eax; int $0x80; popl %%ebp"
                     : "=a"(result)
                     : "a"(arguments), "b"(a), "c"(b), "d"(c), "S"(d), "D"(e)
                     : "memory");
    return result;
}

static void leave(int status)
{
    for (;;)
        call(__NR_exit_group, status, 0, 0, 0, 0);
}

static void require(int good, int status)
{
    if (!good)
        leave(status);
}

enum { INTERRUPTED = -4 }; /* EINTR: by the timer */

static void read_all(void *to, u32 count)
{
    for (u8 *at = to; count;) {
        int got = call(__NR_read, 0, (u32)at, count, 0, 0);
        if (got == INTERRUPTED)
            continue;
        require(got > 0, got == 0 ? 0 : 20);
        at += got;
        count -= got;
    }
}

static void write_all(const void *from, u32 count)
{
    for (const u8 *at = from; count;) {
        int got = call(__NR_write, 1, (u32)at, count, 0, 0);
        if (got == INTERRUPTED)
            continue;
        require(got > 0, 21);
        at += got;
        count -= got;
    }
}

void *memcpy(void *to, const void *from, unsigned count)
{
    void *result = to;
    __asm__ volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(count) : : "memory");
    return result;
}

void *memset(void *to, int value, unsigned count)
{
    void *result = to;
    __asm__ volatile("rep stosb" : "+D"(to), "+c"(count) : "a"(value) : "memory");
    return result;
}

/* ---- the case at hand, as entry.S and the signal handler see it */

u32 in_has_fpu, in_by_signal;
u32 in_eax, in_ecx, in_edx, in_ebx, in_ebp, in_esi, in_edi, in_eflags;
u16 in_es __attribute__((aligned(4))), in_ds __attribute__((aligned(4)));
u16 in_fs __attribute__((aligned(4))), in_gs __attribute__((aligned(4)));
struct far_pointer {
    u32 offset;
    u16 selector;
} in_esp __attribute__((aligned(8))), in_eip __attribute__((aligned(8)));
u8 in_fpu[512] __attribute__((aligned(16))), out_fpu[512] __attribute__((aligned(16)));
u32 out_eax, out_ecx, out_edx, out_ebx, out_esp, out_ebp, out_esi, out_edi, out_eflags;
u32 out_es, out_ss, out_ds, out_fs, out_gs;
u32 own_stack;
u32 flat_data = 0x2b;
void (*return_path)(void);

static u32 out_cs, out_eip, out_vector, out_error, out_cr2;

enum { FELL, FAULTED, ENDLESS, BROKEN };
static volatile u32 out_kind;
/* number of the case being run, and what it was at the last tick; 0 between cases */
static volatile u32 running, running_at_tick;

void enter(void);
void resume(void);
void stumble(void);
void return_plain(void);
void return_fpu(void);
void on_signal(void);
void restorer(void);

/* struct sigcontext of i386, within struct ucontext */
struct context {
    u32 flags, link, stack[3];
    u32 gs, fs, es, ds, edi, esi, ebp, esp, ebx, edx, ecx, eax, trapno, err, eip, cs, eflags, esp_at_signal, ss;
    u8 *fpstate;
    u32 oldmask, cr2;
};

enum { SIGALRM = 14 };

enum { PAGE = 4096, MOST_PAGES = 16 };
#define FIRST_OF_RUNNER 0x60000000u
#define FIRST_BEHIND_RUNNER 0x7ffff000u

static int is_null(u32 selector)
{
    return (selector & 0xfffc) == 0;
}

static void back_to_runner(struct context *c)
{
    c->eip = (u32)resume;
    c->cs = 0x23;
    c->ss = c->ds = c->es = flat_data;
    c->fs = c->gs = 0;
    c->esp = c->esp_at_signal = own_stack;
    c->eflags = 0x202;
}

static void save(const struct context *c)
{
    out_eax = c->eax, out_ecx = c->ecx, out_edx = c->edx, out_ebx = c->ebx;
    out_esp = c->esp, out_ebp = c->ebp, out_esi = c->esi, out_edi = c->edi;
    out_eip = c->eip, out_cs = c->cs & 0xffff, out_eflags = c->eflags;
    out_es = c->es & 0xffff, out_ss = c->ss & 0xffff, out_ds = c->ds & 0xffff;
    out_fs = c->fs & 0xffff, out_gs = c->gs & 0xffff;
    if (in_has_fpu) /* the FXSAVE image stands behind the 112 bytes of the old format */
        memcpy(out_fpu, c->fpstate + 112, 512);
}

void handle(int signal, struct context *c)
{
    u32 inside = c->cs == 0x23 && c->eip >= FIRST_OF_RUNNER && c->eip < FIRST_BEHIND_RUNNER;
    if (signal == SIGALRM) {
        u32 stuck = running && running == running_at_tick && !inside;
        running_at_tick = running;
        if (stuck) {
            save(c);
            out_kind = ENDLESS;
            back_to_runner(c);
        }
        return;
    }
    if (c->eip == (u32)stumble && in_by_signal) {
        c->eax = in_eax, c->ecx = in_ecx, c->edx = in_edx, c->ebx = in_ebx;
        c->esp = in_esp.offset, c->ebp = in_ebp, c->esi = in_esi, c->edi = in_edi;
        c->eip = in_eip.offset, c->cs = in_eip.selector, c->ss = in_esp.selector;
        c->es = in_es, c->ds = in_ds, c->fs = in_fs, c->gs = in_gs;
        c->esp_at_signal = c->esp;
        c->eflags = in_eflags;
        return;
    }
    require(running, 22);
    save(c);
    /* Linux gives null selectors an RPL of 3 on the way through a signal */
    if (in_by_signal) {
        if (is_null(in_es) && is_null(out_es)) out_es = in_es;
        if (is_null(in_ds) && is_null(out_ds)) out_ds = in_ds;
        if (is_null(in_fs) && is_null(out_fs)) out_fs = in_fs;
        if (is_null(in_gs) && is_null(out_gs)) out_gs = in_gs;
    }
    /* TF that the case set itself lets it come one jump far */
    u32 stepped = c->trapno == 1 && c->eip == FIRST_OF_RUNNER + PAGE;
    out_kind = inside && !stepped ? BROKEN : FAULTED;
    out_vector = c->trapno;
    out_error = c->err;
    out_cr2 = c->cr2;
    back_to_runner(c);
}

static u8 signal_stack[16384] __attribute__((aligned(16)));

static void install(int signal)
{
    struct {
        void (*handler)(void);
        u32 flags;
        void (*restorer)(void);
        u32 mask[2];
    } action = { on_signal, 0, restorer, { 0, 0 } };
    /* SA_RESTART for the timer that ticks while a batch is read */
    action.flags = 0x4 | 0x04000000 | 0x08000000 | 0x10000000 | 0x40000000;
    require(call(__NR_rt_sigaction, signal, (u32)&action, 0, 8, 0) == 0, 23);
}

/* ---- the world */

enum { ALL, READ_ONLY, NONE };

struct page {
    u32 at, rights;
};

static u32 pages;
static struct page page[MOST_PAGES];
/* the same memory, always writable; what it held before the case; what it holds between cases */
static u8 *alias;
static u8 before[MOST_PAGES][PAGE] __attribute__((aligned(64)));
static u8 pattern[MOST_PAGES][PAGE] __attribute__((aligned(64)));

static void set_up_world(void)
{
    struct {
        u32 entries, pages;
    } head;
    read_all(&head, sizeof head);
    require(head.pages <= MOST_PAGES && head.entries <= 8192, 24);
    pages = head.pages;
    for (u32 n = 0; n < head.entries; n++) {
        struct user_desc entry;
        read_all(&entry, sizeof entry);
        require(call(__NR_modify_ldt, 0x11, (u32)&entry, sizeof entry, 0, 0) == 0, 25);
    }
    int file = call(__NR_memfd_create, (u32) "world", 0, 0, 0, 0);
    require(file >= 0 && call(__NR_ftruncate, file, pages * PAGE, 0, 0, 0) == 0, 26);
    alias = (u8 *)call6(__NR_mmap2, 0x67000000, pages * PAGE, 3, 0x11, file, 0);
    require(alias == (u8 *)0x67000000, 27);
    for (u32 n = 0; n < pages; n++) {
        read_all(&page[n], sizeof page[n]);
        read_all(pattern[n], PAGE);
        memcpy(before[n], pattern[n], PAGE);
        memcpy(alias + n * PAGE, pattern[n], PAGE);
        u32 rights = page[n].rights == ALL ? 7 : page[n].rights == READ_ONLY ? 5 : 0;
        require(call6(__NR_mmap2, page[n].at, PAGE, rights, 0x11, file, n) == (int)page[n].at, 28);
        if (page[n].rights != NONE) /* have it mapped now, not in the middle of a case */
            (void)*(volatile u8 *)page[n].at;
        if (page[n].rights == ALL)
            *(volatile u8 *)page[n].at = pattern[n][0];
    }
    call(__NR_close, file, 0, 0, 0, 0);
}

/* Where a linear address of the world is written: through itself if it may be, so that the processor sees code change;
   0 where there is no page (code may be cut off by the end of its pages). */
static u8 *writable(u32 at, u32 *n)
{
    for (*n = 0; *n < pages; ++*n)
        if (at - page[*n].at < PAGE)
            return (page[*n].rights == ALL ? (u8 *)page[*n].at : alias + *n * PAGE) + (at & (PAGE - 1));
    return 0;
}

static void put(u32 at, const u8 *bytes, u32 count)
{
    while (count) {
        u32 n, part = PAGE - (at & (PAGE - 1));
        u8 *to = writable(at, &n);
        if (part > count)
            part = count;
        if (to) {
            memcpy(to, bytes, part);
            memcpy(before[n] + (at & (PAGE - 1)), bytes, part);
        }
        at += part, bytes += part, count -= part;
    }
}

static void unput(u32 at, u32 count)
{
    while (count) {
        u32 n, offset = at & (PAGE - 1), part = PAGE - offset;
        u8 *to = writable(at, &n);
        if (part > count)
            part = count;
        if (to) {
            memcpy(to, pattern[n] + offset, part);
            memcpy(before[n] + offset, pattern[n] + offset, part);
        }
        at += part, count -= part;
    }
}

/* ---- batches */

typedef char vector __attribute__((vector_size(16)));
typedef long long halves __attribute__((vector_size(16)));

static int lines_differ(const u8 *a, const u8 *b)
{
    const halves *x = (const halves *)a, *y = (const halves *)b;
    halves d = (x[0] ^ y[0]) | (x[1] ^ y[1]) | (x[2] ^ y[2]) | (x[3] ^ y[3]);
    return __builtin_ia32_pmovmskb128((vector)d == (vector){ 0 }) != 0xffff;
}

#define INPUT ((u8 *)0x68000000)
#define OUTPUT ((u8 *)0x6c000000)
enum { ROOM = 0x4000000 };

static u32 *answer;

/* Lists runs of changed bytes of a page, and changes them back. Runs may hold a few bytes that did not change. */
static u32 list_changes(u32 n)
{
    u8 *now = page[n].rights == ALL ? (u8 *)page[n].at : alias + n * PAGE;
    u32 runs = 0;
    for (u32 line = 0; line < PAGE; line += 64) {
        if (!lines_differ(now + line, before[n] + line))
            continue;
        for (u32 i = line; i < line + 64; i++) {
            if (now[i] == before[n][i])
                continue;
            u32 end = i + 1;
            while (end < line + 64 && now[end] != before[n][end])
                end++;
            *answer++ = page[n].at + i;
            *answer++ = end - i;
            memcpy(answer, now + i, end - i);
            answer += (end - i + 3) / 4;
            runs++;
            i = end;
        }
        memcpy(now + line, before[n] + line, 64);
    }
    return runs;
}

/* A case on the wire; code, memory and FXSAVE image follow. native.rs writes it. */
struct wire {
    u32 size, has_fpu, by_signal, at, code, regs[8], eip, eflags, es, cs, ss, ds, fs, gs, patches;
};

static const u32 *run(const u32 *input, u32 number)
{
    const struct wire *w = (const struct wire *)input;
    const u8 *code = (const u8 *)(w + 1);
    const u32 *patch = (const u32 *)(code + (w->code + 3) / 4 * 4), *after = patch;
    for (u32 n = 0; n < w->patches; n++) {
        put(after[0], (const u8 *)(after + 2), after[1]);
        after += 2 + (after[1] + 3) / 4;
    }
    put(w->at, code, w->code);
    if (w->has_fpu)
        memcpy(in_fpu, after, 512);

    in_has_fpu = w->has_fpu, in_by_signal = w->by_signal;
    in_eax = w->regs[0], in_ecx = w->regs[1], in_edx = w->regs[2], in_ebx = w->regs[3];
    in_ebp = w->regs[5], in_esi = w->regs[6], in_edi = w->regs[7];
    in_esp.offset = w->regs[4], in_esp.selector = w->ss;
    in_eip.offset = w->eip, in_eip.selector = w->cs;
    in_eflags = w->eflags, in_es = w->es, in_ds = w->ds, in_fs = w->fs, in_gs = w->gs;
    return_path = in_has_fpu ? return_fpu : return_plain;
    out_kind = FELL;
    out_vector = out_error = out_cr2 = out_eip = out_cs = 0;
    running = number;
    enter();
    running = 0;

    u32 *start = answer;
    u32 result[] = { 0, out_kind, out_vector, out_error, out_cr2, out_eip, out_eflags, out_eax, out_ecx, out_edx,
                     out_ebx, out_esp, out_ebp, out_esi, out_edi, out_es, out_cs, out_ss, out_ds, out_fs, out_gs, 0 };
    answer += sizeof result / 4;
    u32 runs = 0;
    for (u32 n = 0; n < pages; n++)
        if (page[n].rights == ALL)
            runs += list_changes(n);
    result[21] = runs;
    if (w->has_fpu) {
        memcpy(answer, out_fpu, 512);
        answer += 128;
    }
    result[0] = answer - start;
    memcpy(start, result, sizeof result);

    unput(w->at, w->code);
    for (u32 n = 0; n < w->patches; n++) {
        unput(patch[0], patch[1]);
        patch += 2 + (patch[1] + 3) / 4;
    }
    return (const u32 *)((const u8 *)input + w->size);
}

void runner(void)
{
    /* what the kernel mapped for a program that had a libc: the stack, the vDSO */
    require(call(__NR_munmap, FIRST_BEHIND_RUNNER + PAGE, 0xffffe000u - FIRST_BEHIND_RUNNER - PAGE, 0, 0, 0) == 0, 34);
    u32 stack[3] = { (u32)signal_stack, 0, sizeof signal_stack };
    require(call(__NR_sigaltstack, (u32)stack, 0, 0, 0, 0) == 0, 30);
    static const int signals[] = { 4, 5, 7, 8, 11, SIGALRM };
    for (u32 n = 0; n < sizeof signals / sizeof *signals; n++)
        install(signals[n]);
    require(call6(__NR_mmap2, (u32)INPUT, ROOM, 3, 0x32, -1, 0) == (int)INPUT, 31);
    require(call6(__NR_mmap2, (u32)OUTPUT, ROOM, 3, 0x32, -1, 0) == (int)OUTPUT, 31);
    set_up_world();
    u32 timer[4] = { 0, 250000, 0, 250000 };
    require(call(__NR_setitimer, 0, (u32)timer, 0, 0, 0) == 0, 32);
    for (;;) {
        u32 head[2]; /* cases, bytes */
        read_all(head, sizeof head);
        require(head[1] <= ROOM, 33);
        read_all(INPUT, head[1]);
        const u32 *input = (const u32 *)INPUT;
        answer = (u32 *)OUTPUT + 1;
        for (u32 n = 1; n <= head[0]; n++)
            input = run(input, n);
        *(u32 *)OUTPUT = (u8 *)answer - OUTPUT - 4;
        write_all(OUTPUT, (u8 *)answer - OUTPUT);
    }
}
