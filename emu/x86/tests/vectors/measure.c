/* Asks the silicon it runs on what integer instructions do with registers and flags, undefined flags too.
 *
 *     gcc -m32 -O1 -o measure measure.c && ./measure > silicon.txt      the digests that tests/silicon.rs compares
 *     ./measure --show 0fa4d803                                         every case of one instruction in the open
 *
 * For each instruction: CASES random inputs for EAX, EBX, ECX, EDX and the arithmetic flags, made from a seed that is
 * the hash of its bytes, and one hash over all results. An instruction that faults with #DE adds a mark instead.
 */
#define _GNU_SOURCE
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define CASES 4000
#define ARITHMETIC 0x8d5u

static struct { uint32_t eax, ebx, ecx, edx, flags, esp; } in, out;
static uint64_t state;
static sigjmp_buf escape;
static const char *show;
static uint8_t *code;

static uint64_t next(void)
{
	uint64_t z = state += 0x9e3779b97f4a7c15u;
	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
	return z ^ (z >> 31);
}

static uint64_t hash(uint64_t h, uint32_t value)
{
	for (int i = 0; i < 4; i++)
		h = (h ^ (value >> (8 * i) & 0xff)) * 0x100000001b3u;
	return h;
}

/* A mix of edges, small numbers and anything. */
static uint32_t operand(void)
{
	static const uint32_t edges[] = { 0, 1, 0xffffffff, 0x80000000, 0x7fffffff, 0x8000, 0x7fff, 0xffff, 0x80, 0x7f,
					  0xff, 0x10000, 0x8080, 0x80008000, 0xff00, 0x100 };
	uint64_t r = next();
	uint32_t value = r >> 32;
	switch (r & 7) {
	case 0: return edges[r >> 3 & 15];
	case 1: return value & 0x1f;
	case 2: return value & 0xff;
	case 3: return value & 0xffff;
	case 4: return 1u << (value & 31);
	default: return value;
	}
}

static void on_fault(int signal)
{
	siglongjmp(escape, signal);
}

static void build(const uint8_t *insn, size_t len)
{
	uint8_t *p = code;
#define BYTE(b) (*p++ = (b))
#define ADDRESS(a) (*(uint32_t *)p = (uint32_t)(a), p += 4)
	BYTE(0x60);                                             /* pusha */
	BYTE(0x89), BYTE(0x25), ADDRESS(&out.esp);              /* mov [out.esp], esp */
	BYTE(0xff), BYTE(0x35), ADDRESS(&in.flags), BYTE(0x9d); /* push [in.flags]; popf */
	BYTE(0xa1), ADDRESS(&in.eax);
	BYTE(0x8b), BYTE(0x1d), ADDRESS(&in.ebx);
	BYTE(0x8b), BYTE(0x0d), ADDRESS(&in.ecx);
	BYTE(0x8b), BYTE(0x15), ADDRESS(&in.edx);
	memcpy(p, insn, len), p += len;
	BYTE(0xa3), ADDRESS(&out.eax);
	BYTE(0x89), BYTE(0x1d), ADDRESS(&out.ebx);
	BYTE(0x89), BYTE(0x0d), ADDRESS(&out.ecx);
	BYTE(0x89), BYTE(0x15), ADDRESS(&out.edx);
	BYTE(0x8b), BYTE(0x25), ADDRESS(&out.esp);
	BYTE(0x9c), BYTE(0x8f), BYTE(0x05), ADDRESS(&out.flags); /* pushf; pop [out.flags] */
	BYTE(0x61), BYTE(0xc3);                                 /* popa; ret */
}

static void measure(const char *name, const uint8_t *insn, size_t len)
{
	char hex[64] = "";
	uint64_t h = 0xcbf29ce484222325u;
	for (size_t i = 0; i < len; i++) {
		sprintf(hex + 2 * i, "%02x", insn[i]);
		h = (h ^ insn[i]) * 0x100000001b3u;
	}
	if (show && strcmp(show, hex) && strcmp(show, "all"))
		return;
	state = h;
	h = 0xcbf29ce484222325u;
	build(insn, len);
	for (int n = 0; n < CASES; n++) {
		in.eax = operand(), in.ebx = operand(), in.ecx = operand(), in.edx = operand();
		in.flags = (next() & ARITHMETIC) | 0x202;
		int signal = sigsetjmp(escape, 1);
		if (!signal)
			((void (*)(void))code)();
		else if (signal != SIGFPE) {
			fprintf(stderr, "%s (%s): signal %d\n", name, hex, signal);
			return;
		}
		if (signal) {
			h = hash(h, 0xdede);
		} else {
			h = hash(h, out.eax), h = hash(h, out.ebx), h = hash(h, out.ecx), h = hash(h, out.edx);
			h = hash(h, out.flags & ARITHMETIC);
		}
		if (show) {
			printf("%s %08x %08x %08x %08x %03x => ", hex, in.eax, in.ebx, in.ecx, in.edx, in.flags & ARITHMETIC);
			if (signal)
				puts("#DE");
			else
				printf("%08x %08x %08x %08x %03x\n", out.eax, out.ebx, out.ecx, out.edx, out.flags & ARITHMETIC);
		}
	}
	if (!show)
		printf("%-22s %016llx %s\n", hex, (unsigned long long)h, name);
}

#define M(name, ...) measure(name, (const uint8_t[]){ __VA_ARGS__ }, sizeof((const uint8_t[]){ __VA_ARGS__ }))

/* One opcode as byte, word and doubleword; /r forms with BL or BX or EBX as r/m. */
static void widths(const char *name, uint8_t opcode, uint8_t modrm)
{
	M(name, opcode, modrm);
	M(name, 0x66, opcode | 1, modrm);
	M(name, opcode | 1, modrm);
}

int main(int argc, char **argv)
{
	static uint8_t stack[1 << 16];
	stack_t alternate = { .ss_sp = stack, .ss_size = sizeof stack };
	struct sigaction action = { .sa_handler = on_fault, .sa_flags = SA_ONSTACK };
	static const char *const alu[] = { "add", "or", "adc", "sbb", "and", "sub", "xor", "cmp" };
	static const char *const rotates[] = { "rol", "ror", "rcl", "rcr", "shl", "shr", "sal", "sar" };
	static const char *const unary[] = { "test", "test", "not", "neg", "mul", "imul", "div", "idiv" };
	static const char *const bits[] = { "bt", "bts", "btr", "btc" };
	static const uint8_t counts[] = { 0, 1, 2, 3, 7, 8, 9, 10, 15, 16, 17, 18, 19, 24, 25, 27, 31, 32, 33, 255 };

	if (argc == 3 && !strcmp(argv[1], "--show"))
		show = argv[2];
	code = mmap(0, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	sigaltstack(&alternate, 0);
	sigaction(SIGFPE, &action, 0);
	sigaction(SIGILL, &action, 0);
	sigaction(SIGSEGV, &action, 0);

	for (int n = 0; n < 8; n++) {
		widths(alu[n], n << 3, 0xd3);     /* ebx, edx */
		widths(alu[n], n << 3 | 2, 0xc3); /* eax, ebx */
		M(alu[n], n << 3 | 4, 0x85);
		M(alu[n], n << 3 | 5, 0x85, 0x00, 0xff, 0x7f);
		M(alu[n], 0x66, 0x83, 0xc3 | n << 3, 0x80);
		M(alu[n], 0x83, 0xc3 | n << 3, 0x80);
		M(alu[n], 0x80, 0xc7 | n << 3, 0x7f);
		M(alu[n], 0x82, 0xc3 | n << 3, 0x81);
	}
	widths("test", 0x84, 0xd3);
	M("test", 0xa8, 0x91);
	for (int n = 2; n < 8; n++)
		widths(unary[n], 0xf6, 0xc3 | n << 3);
	widths("inc", 0xfe, 0xc3), widths("dec", 0xfe, 0xcb);
	M("inc", 0x43), M("dec", 0x66, 0x4b);
	M("imul", 0x66, 0x0f, 0xaf, 0xc3), M("imul", 0x0f, 0xaf, 0xc3);
	M("imul", 0x66, 0x6b, 0xc3, 0x85), M("imul", 0x6b, 0xc3, 0x85);
	M("imul", 0x66, 0x69, 0xc3, 0x85, 0x01), M("imul", 0x69, 0xc3, 0x85, 0x01, 0x00, 0x80);
	M("adcx", 0x66, 0x0f, 0x38, 0xf6, 0xc3), M("adox", 0xf3, 0x0f, 0x38, 0xf6, 0xc3);

	for (int n = 0; n < 8; n++) {
		widths(rotates[n], 0xd0, 0xc3 | n << 3);
		widths(rotates[n], 0xd2, 0xc3 | n << 3);
		for (size_t c = 0; c < sizeof counts; c++) {
			M(rotates[n], 0xc0, 0xc3 | n << 3, counts[c]);
			M(rotates[n], 0x66, 0xc1, 0xc3 | n << 3, counts[c]);
			M(rotates[n], 0xc1, 0xc3 | n << 3, counts[c]);
		}
	}
	for (int right = 0; right < 2; right++) {
		const char *name = right ? "shrd" : "shld";
		M(name, 0x66, 0x0f, 0xa5 | right << 3, 0xd3), M(name, 0x0f, 0xa5 | right << 3, 0xd3);
		for (size_t c = 0; c < sizeof counts; c++) {
			M(name, 0x66, 0x0f, 0xa4 | right << 3, 0xd3, counts[c]);
			M(name, 0x0f, 0xa4 | right << 3, 0xd3, counts[c]);
		}
	}
	M("rorx", 0xc4, 0xe3, 0x7b, 0xf0, 0xc3, 0x00), M("rorx", 0xc4, 0xe3, 0x7b, 0xf0, 0xc3, 0x25);
	M("sarx", 0xc4, 0xe2, 0x72, 0xf7, 0xc3), M("shlx", 0xc4, 0xe2, 0x71, 0xf7, 0xc3);
	M("shrx", 0xc4, 0xe2, 0x73, 0xf7, 0xc3);

	for (int n = 0; n < 4; n++) {
		M(bits[n], 0x66, 0x0f, 0xa3 | n << 3, 0xcb), M(bits[n], 0x0f, 0xa3 | n << 3, 0xcb);
		M(bits[n], 0x66, 0x0f, 0xba, 0xe3 | n << 3, 0x13), M(bits[n], 0x0f, 0xba, 0xe3 | n << 3, 0x33);
	}
	M("bsf", 0x66, 0x0f, 0xbc, 0xc3), M("bsf", 0x0f, 0xbc, 0xc3);
	M("bsr", 0x66, 0x0f, 0xbd, 0xc3), M("bsr", 0x0f, 0xbd, 0xc3);
	M("popcnt", 0x66, 0xf3, 0x0f, 0xb8, 0xc3), M("popcnt", 0xf3, 0x0f, 0xb8, 0xc3);
	M("tzcnt", 0x66, 0xf3, 0x0f, 0xbc, 0xc3), M("tzcnt", 0xf3, 0x0f, 0xbc, 0xc3);
	M("lzcnt", 0x66, 0xf3, 0x0f, 0xbd, 0xc3), M("lzcnt", 0xf3, 0x0f, 0xbd, 0xc3);
	M("andn", 0xc4, 0xe2, 0x70, 0xf2, 0xc3), M("bextr", 0xc4, 0xe2, 0x70, 0xf7, 0xc3);
	M("blsr", 0xc4, 0xe2, 0x78, 0xf3, 0xcb), M("blsmsk", 0xc4, 0xe2, 0x78, 0xf3, 0xd3);
	M("blsi", 0xc4, 0xe2, 0x78, 0xf3, 0xdb), M("bzhi", 0xc4, 0xe2, 0x70, 0xf5, 0xc3);
	M("pdep", 0xc4, 0xe2, 0x73, 0xf5, 0xc3), M("pext", 0xc4, 0xe2, 0x72, 0xf5, 0xc3);
	M("mulx", 0xc4, 0xe2, 0x73, 0xf6, 0xc3), M("mulx", 0xc4, 0xe2, 0x7b, 0xf6, 0xc3);

	M("daa", 0x27), M("das", 0x2f), M("aaa", 0x37), M("aas", 0x3f);
	M("aam", 0xd4, 0x0a), M("aam", 0xd4, 0x00), M("aam", 0xd4, 0x07), M("aad", 0xd5, 0x0a), M("aad", 0xd5, 0xf3);
	return 0;
}
