.globl _start
_start:
# each: rdi = iterations
calls: # push/pop heavy calls
 push %r13
 push %r12
 mov %rdi,%r12
 xor %r13d,%r13d
1: mov %r12,%rdi
 call frame
 add %rax,%r13
 dec %r12
 jne 1b
 mov %r13,%rax
 pop %r12
 pop %r13
 ret
 .p2align 4
frame: push %rbp
 push %rbx
 sub $0x18,%rsp
 mov %rdi,8(%rsp)
 mov %rdi,%rbx
 lea 3(%rbx),%rbp
 mov 8(%rsp),%rax
 add %rbp,%rax
 add $0x18,%rsp
 pop %rbx
 pop %rbp
 ret
 .p2align 4
bytes: # byte loop over a buffer at rsi, with r12..r15
 push %r12
 push %r14
 mov %rsi,%r14
 xor %eax,%eax
 xor %r12d,%r12d
2: movzbl (%r14,%r12),%ecx
 imul $31,%eax,%eax
 add %ecx,%eax
 inc %r12
 and $1023,%r12d
 dec %rdi
 jne 2b
 pop %r14
 pop %r12
 ret
 .p2align 4
locals: # locals on the stack
 sub $0x28,%rsp
 mov %rdi,(%rsp)
 movq $0,8(%rsp)
3: mov 8(%rsp),%rax
 lea (%rax,%rax,2),%rax
 add (%rsp),%rax
 mov %rax,8(%rsp)
 decq (%rsp)
 jne 3b
 mov 8(%rsp),%rax
 add $0x28,%rsp
 ret
 .p2align 4
chase: # rsi = pointer to a pointer to itself
 mov (%rsi),%rsi
 dec %rdi
 jne chase
 mov %rsi,%rax
 ret
 .p2align 4
fields: # struct walking with branches
 xor %eax,%eax
4: cmpl $5,8(%rsi)
 je 5f
 add 16(%rsi),%rax
 jmp 6f
5: sub 24(%rsi),%rax
6: incl 8(%rsi)
 andl $7,8(%rsi)
 dec %rdi
 jne 4b
 ret
