/* Runs cases natively, for comparison with pagewalk. Started by native.rs, which sends a world and then batches of cases
   on standard input and reads what came of them from standard output. No libc: nothing but what stands here is in the
   process, so that a case can disturb as little as possible. */

#include <asm/ldt.h>
#include <asm/unistd_32.h>
#include <cpuid.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
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

enum { EINTR = 4 }; /* by the timer */

static void read_all(void *to, u32 count)
{
    for (u8 *at = to; count;) {
        int got = call(__NR_read, 0, (u32)at, count, 0, 0);
        if (got == -EINTR)
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
        if (got == -EINTR)
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
u32 flat_data = 0x2b, plain_mxcsr = 0x1f80;
void (*return_path)(void);

static u32 out_cs, out_eip, out_vector, out_error, out_cr2;

enum { FELL, FAULTED, ENDLESS, BROKEN, INTERRUPTED };
static volatile u32 out_kind;
volatile u32 running;

void enter(void);
void return_plain(void);
void return_fpu(void);
void return_slow(void);
void on_signal(void);
void restorer(void);

enum { SIGILL = 4, SIGTRAP = 5, SIGBUS = 7, SIGFPE = 8, SIGSEGV = 11, SIGPROF = 27, SIGSYS = 31 };
enum { TF = 0x100, NT = 0x4000, ID = 0x200000 };
enum { PAGE = 4096, MOST_PAGES = 16 };
#define FIRST_OF_RUNNER 0x60000000u
#define FIRST_BEHIND_RUNNER 0x7ffff000u
#define RETURN (FIRST_OF_RUNNER + PAGE)

/* ---- signals */

/* struct ucontext of i386, as of rt_sigreturn */
struct context {
    u32 flags, link, stack[3];
    u32 gs, fs, es, ds, edi, esi, ebp, esp, ebx, edx, ecx, eax, trapno, err, eip, cs, eflags, esp_at_signal, ss;
    u8 *fpstate;
    u32 oldmask, cr2, mask[2];
};

/* what stands at fpstate: FSAVE's format and the FXSAVE image */
struct fpstate {
    u32 control, status, tags, pointers[4];
    u8 registers[8][10];
    u32 magic;
    u8 fx[512];
};

static u8 signal_stack[65536] __attribute__((aligned(16)));
static const u32 alternate[3] = { (u32)signal_stack, 0, sizeof signal_stack };

static u32 is_null(u32 selector)
{
    return (selector & 0xfffc) == 0;
}

/* rt_sigreturn leaves by IRET, which makes null selectors 0 (SDM 2A "IRET/IRETD/IRETQ", Operation). */
static u32 selector_after(u32 before, u32 after)
{
    after &= 0xffff;
    return in_by_signal && is_null(before) && after == 0 ? before : after;
}

static void save(const struct context *c)
{
    out_eax = c->eax, out_ecx = c->ecx, out_edx = c->edx, out_ebx = c->ebx;
    out_esp = c->esp, out_ebp = c->ebp, out_esi = c->esi, out_edi = c->edi;
    out_eip = c->eip, out_cs = c->cs & 0xffff, out_ss = c->ss & 0xffff, out_eflags = c->eflags;
    out_es = selector_after(in_es, c->es), out_ds = selector_after(in_ds, c->ds);
    out_fs = selector_after(in_fs, c->fs), out_gs = selector_after(in_gs, c->gs);
    if (in_has_fpu)
        memcpy(out_fpu, ((struct fpstate *)c->fpstate)->fx, 512);
}

/* What a signal means; whether the case ends with it. */
u32 handle(int signal, const struct context *c)
{
    if (!running) { /* the timer may tick between cases; nothing else may happen there */
        require(signal == SIGPROF, 22);
        return 0;
    }
    save(c);
    out_vector = c->trapno, out_error = c->err, out_cr2 = c->cr2;
    u32 inside = c->cs == 0x23 && c->eip >= FIRST_OF_RUNNER && c->eip < FIRST_BEHIND_RUNNER;
    /* TF that the case set itself lets it come one jump far */
    u32 stepped = c->trapno == 1 && c->eip == RETURN;
    if (signal == SIGPROF)
        out_kind = INTERRUPTED;
    else if (signal == SIGSYS)
        out_kind = FAULTED, out_vector = 0x80;
    else if (inside && c->eip == (u32)return_slow)
        out_kind = FELL;
    else
        out_kind = inside && !stepped ? BROKEN : FAULTED;
    running = 0;
    return 1;
}

static void install(int signal)
{
    struct {
        void (*handler)(void);
        u32 flags;
        void (*restorer)(void);
        u32 mask[2];
    } action = { on_signal, 0, restorer, { 0, 0 } };
    /* SA_SIGINFO, SA_RESTORER, SA_ONSTACK, SA_RESTART (the timer ticks while a batch is read), SA_NODEFER */
    action.flags = 0x4 | 0x04000000 | 0x08000000 | 0x10000000 | 0x40000000;
    require(call(__NR_rt_sigaction, signal, (u32)&action, 0, 8, 0) == 0, 23);
}

/* The frame of a signal that never was, by which a case is entered whose first instruction is to be trapped. */
static struct {
    u32 code, signal, info, context;
    u8 siginfo[128];
    struct context c;
} entry_frame;
static struct {
    u32 padding[4];
    struct fpstate state;
} entry_fpu __attribute__((aligned(64)));
struct far_pointer entry_stack __attribute__((aligned(8))) = { (u32)&entry_frame.signal, 0x2b };
u32 in_eflags_kept;

static void fill_entry_frame(void)
{
    struct context *c = &entry_frame.c;
    memcpy(c->stack, alternate, sizeof alternate);
    c->eax = in_eax, c->ecx = in_ecx, c->edx = in_edx, c->ebx = in_ebx;
    c->esp = in_esp.offset, c->ebp = in_ebp, c->esi = in_esi, c->edi = in_edi;
    c->eip = in_eip.offset, c->cs = in_eip.selector, c->ss = in_esp.selector;
    c->es = in_es, c->ds = in_ds, c->fs = in_fs, c->gs = in_gs;
    c->eflags = in_eflags;
    in_eflags_kept = 2 | (in_eflags & (NT | ID));
    c->fpstate = 0;
    if (!in_has_fpu)
        return;
    struct fpstate *to = &entry_fpu.state;
    c->fpstate = (u8 *)to;
    memcpy(to->fx, in_fpu, 512);
    to->control = in_fpu[0] | in_fpu[1] << 8, to->status = in_fpu[2] | in_fpu[3] << 8;
    to->tags = 0;
    for (u32 n = 0; n < 8; n++) {
        to->tags |= in_fpu[4] >> n & 1 ? 0 : 3u << 2 * n;
        memcpy(to->registers[n], in_fpu + 32 + 16 * n, 10);
    }
}

/* From here on only the runner itself may ask the kernel for anything, and only for this. */
static void lock(void)
{
#define WORD(part) BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, part))
#define JUMP(test, value, yes, no) BPF_JUMP(BPF_JMP | test | BPF_K, value, yes, no)
    static const struct sock_filter filter[] = {
        WORD(arch),
        JUMP(BPF_JEQ, AUDIT_ARCH_I386, 0, 8),
        WORD(instruction_pointer), /* its low half; in a 32-bit program it has no other */
        JUMP(BPF_JGE, FIRST_OF_RUNNER, 0, 6),
        JUMP(BPF_JGE, FIRST_BEHIND_RUNNER, 5, 0),
        WORD(nr),
        JUMP(BPF_JEQ, __NR_rt_sigreturn, 4, 0),
        JUMP(BPF_JEQ, __NR_read, 3, 0),
        JUMP(BPF_JEQ, __NR_write, 2, 0),
        JUMP(BPF_JEQ, __NR_exit_group, 1, 0),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRAP),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct {
        u16 length;
        const struct sock_filter *filter;
    } program = { sizeof filter / sizeof *filter, filter };
    enum { PR_SET_NO_NEW_PRIVS = 38 };
    require(call(__NR_prctl, PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0, 35);
    require(call(__NR_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_SPEC_ALLOW, (u32)&program, 0, 0) == 0, 35);
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
typedef u32 wide __attribute__((vector_size(32)));
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

static inline __attribute__((always_inline)) u32 pages_differ_by(const wide *a, const wide *b)
{
    wide one = { 0 }, two = { 0 };
    for (u32 n = 0; n < PAGE / sizeof(wide); n += 2) {
        one |= a[n] ^ b[n];
        two |= a[n + 1] ^ b[n + 1];
    }
    one |= two;
    u32 all = 0;
    for (u32 n = 0; n < sizeof(wide) / 4; n++)
        all |= one[n];
    return all;
}

__attribute__((target("avx2"))) static u32 pages_differ_avx2(const u8 *a, const u8 *b)
{
    return pages_differ_by((const wide *)a, (const wide *)b);
}

static u32 pages_differ_sse2(const u8 *a, const u8 *b)
{
    return pages_differ_by((const wide *)a, (const wide *)b);
}

static u32 (*pages_differ)(const u8 *, const u8 *) = pages_differ_sse2;
static void (*return_with_fpu)(void) = return_slow;

static void choose_by_processor(void)
{
    u32 a, b, c, d, enabled;
    __cpuid(1, a, b, c, d);
    if (!(c & bit_OSXSAVE) || !(c & bit_AVX))
        return;
    __asm__("xgetbv" : "=a"(enabled), "=d"(d) : "c"(0));
    if ((enabled & 6) != 6)
        return;
    return_with_fpu = return_fpu;
    if (__get_cpuid_count(7, 0, &a, &b, &c, &d) && b & bit_AVX2)
        pages_differ = pages_differ_avx2;
}

/* Lists runs of changed bytes of a page, and changes them back. Runs may hold a few bytes that did not change. */
static u32 list_changes(u32 n)
{
    u8 *now = page[n].rights == ALL ? (u8 *)page[n].at : alias + n * PAGE;
    u32 runs = 0;
    if (!pages_differ(now, before[n]))
        return 0;
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

enum { RESULT = 22 };

/* Runs a case; a tick of the timer starts it once more, and the next ends it. */
static const u32 *run(const u32 *input)
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
    return_path = in_has_fpu ? return_with_fpu : return_plain;
    if (in_by_signal)
        fill_entry_frame();

    u32 *start = answer, runs;
    for (u32 tick = 0;; tick++) {
        out_kind = FELL;
        out_vector = out_error = out_cr2 = out_eip = out_cs = 0;
        enter();
        if (out_kind == INTERRUPTED && tick)
            out_kind = ENDLESS;
        answer = start + RESULT;
        runs = 0;
        for (u32 n = 0; n < pages; n++)
            if (page[n].rights == ALL)
                runs += list_changes(n);
        if (out_kind != INTERRUPTED)
            break;
    }
    u32 result[RESULT] = { 0, out_kind, out_vector, out_error, out_cr2, out_eip, out_eflags, out_eax, out_ecx, out_edx,
                           out_ebx, out_esp, out_ebp, out_esi, out_edi, out_es, out_cs, out_ss, out_ds, out_fs, out_gs };
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
    require(call(__NR_munmap, PAGE, FIRST_OF_RUNNER - PAGE, 0, 0, 0) == 0, 34);
    require(call(__NR_munmap, FIRST_BEHIND_RUNNER, 0xffffe000u - FIRST_BEHIND_RUNNER, 0, 0, 0) == 0, 34);
    require(call(__NR_sigaltstack, (u32)alternate, 0, 0, 0, 0) == 0, 30);
    static const int signals[] = { SIGILL, SIGTRAP, SIGBUS, SIGFPE, SIGSEGV, SIGPROF, SIGSYS };
    for (u32 n = 0; n < sizeof signals / sizeof *signals; n++)
        install(signals[n]);
    require(call6(__NR_mmap2, (u32)INPUT, ROOM, 3, 0x32, -1, 0) == (int)INPUT, 31);
    require(call6(__NR_mmap2, (u32)OUTPUT, ROOM, 3, 0x32, -1, 0) == (int)OUTPUT, 31);
    set_up_world();
    choose_by_processor();
    /* ITIMER_PROF: however long others keep the processor, a case has its time */
    u32 timer[4] = { 0, 50000, 0, 50000 };
    require(call(__NR_setitimer, 2, (u32)timer, 0, 0, 0) == 0, 32);
    lock();
    static const u32 ready = 1;
    write_all(&ready, sizeof ready);
    for (;;) {
        u32 head[2]; /* cases, bytes */
        read_all(head, sizeof head);
        require(head[1] <= ROOM, 33);
        read_all(INPUT, head[1]);
        const u32 *input = (const u32 *)INPUT;
        answer = (u32 *)OUTPUT + 1;
        for (u32 n = 0; n < head[0]; n++)
            input = run(input);
        *(u32 *)OUTPUT = (u8 *)answer - OUTPUT - 4;
        write_all(OUTPUT, (u8 *)answer - OUTPUT);
    }
}
