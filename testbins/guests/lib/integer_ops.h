// The instructions of the integer guest, one line each: X(name, width, undefined-flags rule, text). %0 is EAX, %1 ECX, %2 EDX, all
// three may be read and written.
#define BINARY(X, name, rule)                                                                                          \
    X(name, 8, rule, #name "b %b1, %b0") X(name, 16, rule, #name "w %w1, %w0") X(name, 32, rule, #name "l %k1, %k0")
#define UNARY(X, name, rule)                                                                                           \
    X(name, 8, rule, #name "b %b0") X(name, 16, rule, #name "w %w0") X(name, 32, rule, #name "l %k0")
#define SHIFT(X, name, rule)                                                                                           \
    X(name, 8, rule, #name "b %%cl, %b0") X(name, 16, rule, #name "w %%cl, %w0") X(name, 32, rule, #name "l %%cl, %k0")
#define OPS(X)                                                                                                         \
    BINARY(X, add, NONE) BINARY(X, adc, NONE) BINARY(X, sub, NONE) BINARY(X, sbb, NONE) BINARY(X, cmp, NONE)           \
    BINARY(X, and, LOGIC) BINARY(X, or, LOGIC) BINARY(X, xor, LOGIC) BINARY(X, test, LOGIC)                            \
    UNARY(X, neg, NONE) UNARY(X, not, NONE) UNARY(X, inc, NONE) UNARY(X, dec, NONE)                                    \
    SHIFT(X, shl, SHIFTED) SHIFT(X, shr, SHIFTED) SHIFT(X, sar, SHIFTED)                                               \
    SHIFT(X, rol, ROTATED) SHIFT(X, ror, ROTATED) SHIFT(X, rcl, ROTATED) SHIFT(X, rcr, ROTATED)                        \
    X(shld, 16, DOUBLE, "shldw %%cl, %w2, %w0") X(shld, 32, DOUBLE, "shldl %%cl, %k2, %k0")                            \
    X(shrd, 16, DOUBLE, "shrdw %%cl, %w2, %w0") X(shrd, 32, DOUBLE, "shrdl %%cl, %k2, %k0")                            \
    X(mul, 8, MULTIPLIED, "mulb %b1") X(mul, 16, MULTIPLIED, "mulw %w1") X(mul, 32, MULTIPLIED, "mull %k1")            \
    X(imul, 8, MULTIPLIED, "imulb %b1") X(imul, 16, MULTIPLIED, "imulw %w1") X(imul, 32, MULTIPLIED, "imull %k1")      \
    X(imul_2, 16, MULTIPLIED, "imulw %w1, %w0") X(imul_2, 32, MULTIPLIED, "imull %k1, %k0")                            \
    X(imul_3, 32, MULTIPLIED, "imull $-1234567, %k1, %k0")                                                             \
    X(div, 8, DIVIDED, "movzbl %b0, %k0; orb $1, %b1; divb %b1")                                                       \
    X(div, 16, DIVIDED, "xorl %k2, %k2; orl $1, %k1; divw %w1") X(div, 32, DIVIDED, "xorl %k2, %k2; orl $1, %k1; divl %k1") \
    X(idiv, 8, DIVIDED, "andb $0x7f, %b0; cbtw; orb $3, %b1; idivb %b1")                                                \
    X(idiv, 16, DIVIDED, "andw $0x7fff, %w0; cwtd; orl $3, %k1; idivw %w1")                                             \
    X(idiv, 32, DIVIDED, "andl $0x7fffffff, %k0; cltd; orl $3, %k1; idivl %k1")                                         \
    X(bsf, 16, SCANNED, "orw $0x1000, %w1; bsfw %w1, %w0") X(bsf, 32, SCANNED, "orl $0x100000, %k1; bsfl %k1, %k0")    \
    X(bsr, 16, SCANNED, "orw $0x10, %w1; bsrw %w1, %w0") X(bsr, 32, SCANNED, "orl $0x10, %k1; bsrl %k1, %k0")          \
    X(bt, 16, TESTED, "btw %w1, %w0") X(bt, 32, TESTED, "btl %k1, %k0") X(bts, 32, TESTED, "btsl %k1, %k0")            \
    X(btr, 32, TESTED, "btrl %k1, %k0") X(btc, 32, TESTED, "btcl %k1, %k0")                                            \
    X(movzx_8, 32, NONE, "movzbl %b1, %k0") X(movzx_16, 32, NONE, "movzwl %w1, %k0")                                   \
    X(movsx_8, 32, NONE, "movsbl %b1, %k0") X(movsx_16, 32, NONE, "movswl %w1, %k0") X(movsx_8, 16, NONE, "movsbw %b1, %w0") \
    X(cbw, 16, NONE, "cbtw") X(cwde, 32, NONE, "cwtl") X(cwd, 16, NONE, "cwtd") X(cdq, 32, NONE, "cltd")               \
    X(xchg, 8, NONE, "xchgb %h0, %b1") X(lea, 32, NONE, "leal 5(%k0, %k1, 4), %k2")

// What every instruction is given: EAX, ECX, EDX and the status flags.
static const unsigned integer_inputs[6][4] = {
    {0, 0, 0, 0},
    {0x80000000, 0x80000001, 0x12345678, 0x001},
    {0x12345678, 0x9abcdef0, 0xdeadbeef, 0x8d5},
    {0x7f7f7f7f, 0x01010101, 0x80808080, 0x010},
    {0xa5a5a5a5, 0x5a5a5a47, 0x11111111, 0x8d5},
    {0xcafebabe, 0x00003309, 0xfeedface, 0x041},
};

enum { NONE, LOGIC, SHIFTED, ROTATED, DOUBLE, MULTIPLIED, DIVIDED, SCANNED, TESTED };

// The flags that the manual defines after the instruction (CF 1, PF 4, AF 10h, ZF 40h, SF 80h, OF 800h).
static unsigned defined_flags(int rule, unsigned width, unsigned count, int arithmetic_right) {
    switch (rule) {
    case LOGIC: return 0x8c5;
    case SHIFTED: return count == 0 ? 0x8d5 : (count == 1 ? 0x8c4 : 0xc4) | (count < width || arithmetic_right);
    case ROTATED: return count == 0 || count == 1 ? 0x8d5 : 0xd5;
    case DOUBLE: return count == 0 ? 0x8d5 : count > width ? 0 : count == 1 ? 0x8c5 : 0xc5;
    case MULTIPLIED: return 0x801;
    case DIVIDED: return 0;
    case SCANNED: return 0x40;
    case TESTED: return 1;
    default: return 0x8d5;
    }
}
