/* What the module knows: its types, interned names and the parts of asyncio it calls.
   One state for each interpreter that imports hotloop._core. */
#ifndef HL_STATE_H
#define HL_STATE_H

#include "compat.h"

/* Interned names, as X(identifier): hl_name->identifier is the string "identifier". */
#define HL_NAMES(X)                                                                               \
    X(__class__) X(__init__) X(_advance) X(_app_protocol_buffer_updated)                          \
    X(_app_protocol_get_buffer) X(_asyncgen_finalizer_hook) X(_asyncgen_firstiter_hook)           \
    X(_asyncio_future_blocking) X(_attach) X(_buffer) X(_call_connection_lost)                    \
    X(_call_eof_received) X(_check_callback) X(_clients) X(_control_app_writing)                  \
    X(_control_ssl_reading) X(_core) X(_current_handle) X(_detach) X(_do_read)                    \
    X(_do_read__buffered) X(_do_read__copied) X(_do_write) X(_ensure_fd_no_transport) X(_eof)     \
    X(_exception) X(_fatal_error) X(_force_close) X(_limit) X(_loop) X(_paused) X(_process_ended) \
    X(_process_reaped) X(_read_from_self) X(_readers_are_original) X(_real_close)                 \
    X(_report_fatal_error) X(_run) X(_set_coroutine_origin_tracking) X(_signal_handlers)          \
    X(_socket_transport) X(_sockets) X(_ssl_protocol) X(_start_shutdown) X(_stream_reader_type)   \
    X(_stream_reader_wr) X(_timer_handle_cancelled) X(_transport) X(_transport_socket_type)       \
    X(_transports) X(_waiter) X(_wakeup) X(_write_as_asyncio) X(_writelines_as_asyncio) X(accept) \
    X(add_done_callback) X(append) X(buffer_updated) X(call_at) X(call_exception_handler)         \
    X(call_soon) X(callback)                                                                      \
    X(cancel) X(close) X(connect) X(connection_lost) X(connection_made) X(context)                \
    X(create_future) X(data) X(data_received) X(datagram_received) X(debug) X(delay)              \
    X(eager_start) X(eof_received) X(error_received) X(exception) X(extend) X(fd) X(feed_data)    \
    X(fileno) X(get_buffer) X(get_debug) X(get_loop) X(getpeername) X(getsockname) X(gettimeout)  \
    X(is_running) X(join) X(loop) X(message) X(monotonic) X(name) X(pause_reading)                \
    X(pause_writing) X(peername) X(pending) X(pipe) X(protocol) X(read) X(receive) X(recv)        \
    X(recv_into) X(recvfrom) X(recvfrom_into) X(result) X(resume_reading) X(resume_writing)       \
    X(run) X(send) X(sendto) X(setblocking) X(slow_callback_duration) X(socket) X(sockname)       \
    X(source_traceback) X(throw) X(time) X(transport) X(when) X(write)

typedef struct {
#define X(identifier) PyObject *identifier;
    HL_NAMES(X)
#undef X
} HLNames;

/* Is the name, whatever it is, the interned one? */
static inline bool
hl_is_name(PyObject *name, PyObject *interned)
{
    return name == interned
           || (PyUnicode_Check(name) && !PyUnicode_CHECK_INTERNED(name)
               && PyUnicode_Compare(name, interned) == 0);
}

/* Callables and types of the standard library, as X(field, module, attribute). */
#define HL_IMPORTS(X)                                                                            \
    X(StockFuture, "_asyncio", "Future")                                                         \
    X(StockTask, "_asyncio", "Task")                                                             \
    X(StockHandle, "asyncio", "Handle")                                                          \
    X(StockTimerHandle, "asyncio", "TimerHandle")                                                \
    X(events_names, "asyncio.events", "__dict__")                                                \
    X(SelectorEventLoop, "asyncio", "SelectorEventLoop")                                         \
    X(CancelledError, "asyncio", "CancelledError")                                               \
    X(InvalidStateError, "asyncio", "InvalidStateError")                                         \
    X(enter_task, "_asyncio", "_enter_task")                                                     \
    X(leave_task, "_asyncio", "_leave_task")                                                     \
    X(register_task, "_asyncio", "_register_task")                                               \
    X(unregister_task, "_asyncio", "_unregister_task")                                           \
    X(get_running_loop, "_asyncio", "_get_running_loop")                                         \
    X(set_running_loop, "_asyncio", "_set_running_loop")                                         \
    X(iscoroutine, "asyncio", "iscoroutine")                                                     \
    X(extract_stack, "traceback", "extract_stack")                                               \
    X(extract_short_stack, "asyncio.format_helpers", "extract_stack")                            \
    X(format_callback_source, "asyncio.format_helpers", "_format_callback_source")               \
    X(format_handle, "asyncio.base_events", "_format_handle")                                    \
    X(future_repr, "asyncio.base_futures", "_future_repr")                                       \
    X(task_repr, "asyncio.base_tasks", "_task_repr")                                             \
    X(task_get_stack, "asyncio.base_tasks", "_task_get_stack")                                   \
    X(task_print_stack, "asyncio.base_tasks", "_task_print_stack")                               \
    X(logger, "asyncio.log", "logger")                                                           \
    X(StockTransport, "asyncio", "Transport")                                                    \
    X(StockReadTransport, "asyncio", "ReadTransport")                                            \
    X(StockServer, "asyncio.base_events", "Server")                                              \
    X(StockStream, "asyncio.selector_events", "_SelectorSocketTransport")                        \
    X(constants, "asyncio", "constants")                                                         \
    X(BufferedProtocol, "asyncio", "BufferedProtocol")                                           \
    X(StockStreamReader, "asyncio", "StreamReader")                                              \
    X(StreamReaderProtocol, "asyncio", "StreamReaderProtocol")                                   \
    X(IncompleteReadError, "asyncio", "IncompleteReadError")                                     \
    X(LimitOverrunError, "asyncio", "LimitOverrunError")                                         \
    X(TransportSocket, "asyncio.trsock", "TransportSocket")                                      \
    X(SSLProtocolState, "asyncio.sslproto", "SSLProtocolState")                                  \
    X(set_result_unless_cancelled, "asyncio.futures", "_set_result_unless_cancelled")            \
    X(StockSocket, "socket", "socket")                                                           \
    X(StockDatagramTransport, "asyncio", "DatagramTransport")                                    \
    X(GenericAlias, "types", "GenericAlias")                                                     \
    X(get_asyncgen_hooks, "sys", "get_asyncgen_hooks")                                           \
    X(set_asyncgen_hooks, "sys", "set_asyncgen_hooks")                                           \
    X(set_wakeup_fd, "signal", "set_wakeup_fd")                                                  \
    X(main_thread, "threading", "main_thread")                                                   \
    X(time_names, "time", "__dict__")                                                            \
    X(monotonic, "time", "monotonic")                                                            \
    X(convert_future_exc, "asyncio.futures", "_convert_future_exc")

/* The same, where the running Python may lack them: NULL then. */
#define HL_OPTIONAL_IMPORTS(X)                                                                   \
    X(get_event_loop, "asyncio.events", "_get_event_loop")        /* until 3.11 */               \
    X(get_event_loop_312, "asyncio.events", "get_event_loop")                                    \
    X(SSLAgainErrors, "asyncio.sslproto", "SSLAgainErrors")       /* where there is OpenSSL */   \
    X(swap_current_task, "_asyncio", "_swap_current_task")        /* since 3.12 */               \
    X(current_tasks, "_asyncio", "_current_tasks")                /* a dict until 3.13 */        \
    X(scheduled_tasks, "_asyncio", "_scheduled_tasks")            /* a WeakSet since 3.12 */     \
    X(all_tasks_weakset, "_asyncio", "_all_tasks")                /* the same in 3.11 */         \
    X(eager_task_factory, "asyncio", "eager_task_factory")        /* since 3.12 */               \
    X(register_eager_task, "_asyncio", "_register_eager_task")    /* the same */                 \
    X(unregister_eager_task, "_asyncio", "_unregister_eager_task")                               \
    X(add_to_awaited_by, "_asyncio", "future_add_to_awaited_by")  /* since 3.14 */               \
    X(discard_from_awaited_by, "_asyncio", "future_discard_from_awaited_by")

/* Bounded lists of dead objects that keep their memory. */
#define HL_FREE_MAX 4096

typedef struct {
    PyObject *objects[HL_FREE_MAX];
    int length;
} HLFreeList;

/* One of them, alive again and unknown to the garbage collector; NULL, without an exception, if there
   is none. */
static inline PyObject *
hl_free_list_take(HLFreeList *list)
{
    if (list->length == 0) {
        return NULL;
    }
    PyObject *self = list->objects[--list->length];
    hl_revive(self);
    return self;
}

/* Put a dead object there; false if the list is full. */
static inline bool
hl_free_list_keep(HLFreeList *list, PyObject *self)
{
    if (list->length >= HL_FREE_MAX) {
        return false;
    }
    list->objects[list->length++] = self;
    return true;
}

/* The message of the last system error. */
typedef struct {
    int error;
    char text[80];     /* as strerror() gave it */
    PyObject *message; /* owned, or NULL */
} HLLastError;

/* Where a stock Task keeps what an outside debugger reads (see introspect.c). */
typedef struct {
    Py_ssize_t coro; /* offsets into a Task or Future, or 0 for not found */
    Py_ssize_t name;
    Py_ssize_t awaited_by;
    Py_ssize_t flags; /* one flag byte that tells a Task from a Future */
    unsigned char flags_value;
    Py_ssize_t loop; /* since 3.13 */
} HLTaskLayout;

typedef struct HLState {
    PyTypeObject *LoopType;
    PyTypeObject *HandleType;
    PyTypeObject *TimerHandleType;
    PyTypeObject *FutureType;
    PyTypeObject *TaskType;
    PyTypeObject *AwaitIteratorType;
    PyTypeObject *StreamType;
    PyTypeObject *ListenerType;
    PyTypeObject *SocketWaitType;
    PyTypeObject *DatagramTransportType;
    PyTypeObject *CallType;
    PyTypeObject *ChildType;
    PyTypeObject *PoolType;
    PyTypeObject *StreamBufferType;
    PyTypeObject *TLSProtocolType;
    HLNames name;
#define X(field, module, attribute) PyObject *field;
    HL_IMPORTS(X)
    HL_OPTIONAL_IMPORTS(X)
#undef X
    PyObject *context_kwname;                /* ("context",) */
    PyObject *server_attach, *server_detach; /* asyncio.Server's, as they were at import */
    PyObject *do_nothing;                    /* a function written in Python */
    PyObject *tls_wrapped, *tls_flushing;    /* members of SSLProtocolState */
    PyObject *socket_methods;  /* dict: methods of socket.socket as they were at import */
    PyCFunction socket_fileno; /* two of them, or NULL where they are something else */
    PyCFunction socket_gettimeout;
    PyCFunction socket_close;                 /* _socket.socket's, or NULL */
    PyObject *socket_io_refs, *socket_closed; /* descriptors of its slots, or NULL */
    bool socket_known;               /* making and closing one is no secret, see socket.c */
    PyObject *socket_family;         /* the descriptor in C, which gives an int */
    unsigned int socket_version;     /* of the type socket.socket when they were last compared, */
    bool socket_original;            /* and whether they were the same */
    unsigned int reader_versions[2]; /* of asyncio's classes of streams, as of socket.socket */
    bool readers_original;
    PyObject *registry;           /* the set behind the WeakSet of tasks, or NULL */
    bool has_forked;              /* see hl_process_before_fork() */
    bool asserts;                 /* those of asyncio count: not with python -O */
    int format_takes_debug;       /* _format_callback_source(..., debug=) */
    int create_task_takes_kwargs; /* asyncio's create_task(coro, **kwargs) */
    int server_knows_transports;  /* Server._attach(transport) */
    int write_names_types;        /* the wording of write()'s TypeError */
    HLTaskLayout layout;
    HLLastError last_error;
    unsigned long long last_task_number;
    HLFreeList free_handles;
    HLFreeList free_timer_handles;
    HLFreeList free_futures;
    HLFreeList free_tasks;
    HLFreeList free_iterators;
    HLFreeList free_socket_waits;
    HLFreeList free_calls;
} HLState;

/* The name at that place in HLNames, for tables. */
static inline PyObject *
hl_name_at(HLState *st, size_t offset)
{
    return *(PyObject **)((char *)&st->name + offset);
}

extern struct PyModuleDef hl_module_def;

/* The state of the module that made the type or one of its bases.  Never NULL for our types. */
static inline HLState *
hl_state_of_type(PyTypeObject *type)
{
    PyObject *module = PyType_GetModuleByDef(type, &hl_module_def);
    return module != NULL ? PyModule_GetState(module) : NULL;
}

#endif
