/* Which process is this, and has it children?  A loop belongs to the one that made it, and is asked
   so often that getpid() would count.  So its answer is kept, in a page that the kernel empties in
   a child of fork(), however that was called.  A fact of the process, the same in every
   interpreter; the page is never freed.  Any thread may ask. */

#include "hotloop.h"
#include "watch.h"
#include <sys/mman.h>
#include <unistd.h>

_Atomic(atomic_int *) hl_process_page;

int
hl_process_ask(void)
{
    atomic_int *page = atomic_load_explicit(&hl_process_page, memory_order_acquire);
    int pid = (int)getpid();
    if (page != NULL) {
        atomic_store_explicit(page, pid, memory_order_relaxed);
    }
    return pid;
}

/* Without such a page, getpid() is asked each time. */
void
hl_process_setup(void)
{
#if defined(HL_LINUX) && defined(MADV_WIPEONFORK)
    size_t size = (size_t)sysconf(_SC_PAGESIZE);
    if (atomic_load(&hl_process_page) != NULL) {
        return;
    }
    atomic_int *none = NULL;
    void *page = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (page == MAP_FAILED) {
        return;
    }
    /* Some emulators take any advice, even one there is not, and do nothing. */
    if (madvise(page, size, -1) == 0 || madvise(page, size, MADV_WIPEONFORK) < 0
        || !atomic_compare_exchange_strong(&hl_process_page, &none, (atomic_int *)page)) {
        munmap(page, size);
    }
#endif
}

PyObject *
hl_process_before_fork(PyObject *module, PyObject *running)
{
    HLState *st = PyModule_GetState(module);
    st->has_forked = true;
    if (!hl_is_loop(st, running)) {
        Py_RETURN_NONE;
    }
    hl_watch_end_all_rests((HLLoop *)running);
    /* A child that closes a transport must not send what its parent has written, once more. */
    return hl_none_or_error(hl_loop_flush_now((HLLoop *)running));
}
