/* A clock that costs a third of clock_gettime(), for asking every turn whether it is time to poll.

   Where the processor has a counter that user code may read, hl_ticks() is it; elsewhere it is
   CLOCK_MONOTONIC.  Ticks are compared only with an interval measured on the same machine. */
#ifndef HL_TICKS_H
#define HL_TICKS_H

#include <stdint.h>

#if defined(__x86_64__) || defined(__i386__)
#include <x86intrin.h>
static inline uint64_t
hl_ticks(void)
{
    return __rdtsc();
}
#elif defined(__aarch64__)
static inline uint64_t
hl_ticks(void)
{
    uint64_t ticks;
    __asm__ volatile("mrs %0, cntvct_el0" : "=r"(ticks));
    return ticks;
}
#else
#include <time.h>
static inline uint64_t
hl_ticks(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}
#endif

#endif
