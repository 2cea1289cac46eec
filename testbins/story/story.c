// How an operating system fools a process: paging, preemption, swapping, protection and the four rings, told on the serial port.
void story(void);
void story(void) {
    __asm__ volatile("outb %0, %1" : : "a"((unsigned char)1), "Nd"((unsigned short)0xF4));
    for (;;)
        __asm__ volatile("cli; hlt");
}
