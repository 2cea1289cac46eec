# A loop of plain integer code as a boot sector, so that every PC emulator can run it: 32-bit protected mode, flat,
# paging off. It writes S to port E9h when it begins, then its checksum in hex and E when it is done.

    .code16
    .globl _start
_start:
    cli
    xor %ax, %ax
    mov %ax, %ds
    mov %ax, %ss
    mov $0x7c00, %sp
    in $0x92, %al
    or $2, %al
    out %al, $0x92
    lgdt gdtr
    mov %cr0, %eax
    or $1, %al
    mov %eax, %cr0
    ljmpl $8, $flat

    .code32
flat:
    mov $0x10, %ax
    mov %ax, %ds
    mov %ax, %es
    mov %ax, %ss
    mov $0x7c00, %esp
    mov $'S', %al
    out %al, $0xe9
    mov $ROUNDS, %ebp
    xor %eax, %eax                  # checksum
    mov $0x12345678, %ebx           # generator
round:
    mov $0x100000, %edi             # 1024 words of table
    mov $1024, %ecx
fill:
    imul $1103515245, %ebx, %ebx
    add $12345, %ebx
    mov %ebx, %edx
    shr $7, %edx
    xor %edx, (%edi)
    add $4, %edi
    dec %ecx
    jnz fill
    mov $0x100000, %esi
    mov $1024, %ecx
sum:
    mov (%esi), %edx
    test $1, %dl
    jz even
    rol $5, %eax
    call mix
even:
    add %edx, %eax
    adc $0, %eax
    lea 4(%esi), %esi
    cmp %edx, %eax
    jbe below
    xor $0x5a5a, %eax
below:
    dec %ecx
    jnz sum
    dec %ebp
    jnz round
    mov $8, %ecx
digit:
    rol $4, %eax
    mov %eax, %ebx
    and $15, %ebx
    mov digits(%ebx), %dl
    xchg %al, %dl
    out %al, $0xe9
    xchg %al, %dl
    dec %ecx
    jnz digit
    mov $'E', %al
    out %al, $0xe9
    mov $'\n', %al
    out %al, $0xe9
    xor %al, %al
    out %al, $0xf4
    hlt

mix:
    push %ebp
    mov %esp, %ebp
    xor %eax, %edx
    sub %edx, %eax
    pop %ebp
    ret

digits: .ascii "0123456789abcdef"
    .balign 8
gdt:
    .quad 0
    .quad 0x00cf9a000000ffff
    .quad 0x00cf92000000ffff
gdtr:
    .word . - gdt - 1
    .long gdt

    .org 510
    .word 0xaa55
