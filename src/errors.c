/* Errors: libuv codes to OSError, exceptions to the loop's exception handler, and the stacks
   that debug mode keeps for their messages. */

#include "hotloop.h"
#include <string.h>

PyObject *
hl_set_uv_error(int code)
{
    errno = -code;
    return PyErr_SetFromErrno(PyExc_OSError);
}

/* Remember the message of the exception that is set, as the text that strerror() gives it. */
static void
remember_message(HLLastError *last, int error, const char *text)
{
    PyObject *exc = hl_take_exception();
    PyObject *args = exc != NULL ? PyObject_GetAttrString(exc, "args") : NULL;
    if (args != NULL && PyTuple_Check(args) && PyTuple_GET_SIZE(args) == 2
        && strlen(text) < sizeof(last->text)) {
        last->error = error;
        strcpy(last->text, text);
        Py_XSETREF(last->message, Py_NewRef(PyTuple_GET_ITEM(args, 1)));
    }
    PyErr_Clear();
    Py_XDECREF(args);
    hl_give_exception(exc);
}

PyObject *
hl_set_errno(HLState *st)
{
    int error = errno;
    HLLastError *last = &st->last_error;
    const char *text = strerror(error); /* in the user's language */
    if (error == EINTR || last->error != error || strcmp(last->text, text) != 0) {
        errno = error;
        PyErr_SetFromErrno(PyExc_OSError);
        remember_message(last, error, text);
        return NULL;
    }
    PyObject *number = PyLong_FromLong(error);
    PyObject *args[2] = {number, last->message};
    PyObject *exc = number != NULL ? PyObject_Vectorcall(PyExc_OSError, args, 2, NULL) : NULL;
    if (exc != NULL) {
        PyErr_SetObject((PyObject *)Py_TYPE(exc), exc);
    }
    Py_XDECREF(number);
    Py_XDECREF(exc);
    return NULL;
}

int
hl_check_assigned(PyObject *value)
{
    if (value == NULL) {
        PyErr_SetString(PyExc_AttributeError, "cannot delete attribute");
    }
    return value != NULL ? 0 : -1;
}

int
hl_assigned_truth(PyObject *value)
{
    return hl_check_assigned(value) < 0 ? -1 : PyObject_IsTrue(value);
}

bool
hl_is_fatal(void)
{
    return PyErr_ExceptionMatches(PyExc_SystemExit)
           || PyErr_ExceptionMatches(PyExc_KeyboardInterrupt);
}

PyObject *
hl_enter_except(PyObject *exc)
{
    PyObject *outer = PyErr_GetHandledException();
    PyErr_SetHandledException(exc);
    return outer;
}

void
hl_leave_except(PyObject *outer)
{
    PyErr_SetHandledException(outer);
    Py_XDECREF(outer);
}

static PyObject *
report_context(HLState *st, PyObject *message, PyObject *exc, const char *key, PyObject *value,
               PyObject *source_traceback)
{
    PyObject *context = PyDict_New();
    if (context == NULL) {
        return NULL;
    }
    if (PyDict_SetItem(context, st->name.message, message) < 0
        || (exc != NULL && PyDict_SetItem(context, st->name.exception, exc) < 0)
        || (key != NULL && PyDict_SetItemString(context, key, value) < 0)
        || (source_traceback != NULL
            && PyDict_SetItem(context, st->name.source_traceback, source_traceback) < 0)) {
        Py_CLEAR(context);
    }
    return context;
}

int
hl_report(HLState *st, PyObject *loop, PyObject *message, PyObject *exc, const char *key,
          PyObject *value, PyObject *source_traceback)
{
    PyObject *result = NULL;
    PyObject *context = report_context(st, message, exc, key, value, source_traceback);
    if (context != NULL) {
        result = PyObject_CallMethodOneArg(loop, st->name.call_exception_handler, context);
    }
    Py_XDECREF(context);
    Py_XDECREF(result);
    return result != NULL ? 0 : -1;
}

void
hl_report_in_finalizer(HLState *st, PyObject *loop, PyObject *message, PyObject *exc,
                       const char *key, PyObject *value, PyObject *source_traceback)
{
    if (message != NULL && hl_report(st, loop, message, exc, key, value, source_traceback) == 0) {
        return;
    }
    PyObject *raised = hl_take_exception();
    PyObject *function = PyObject_GetAttr(loop, st->name.call_exception_handler);
    PyErr_Clear();
    hl_give_exception(raised);
#if PY_VERSION_HEX >= 0x030E0000
    PyErr_FormatUnraisable("Exception ignored while calling asyncio function %R", function);
#else
    PyErr_WriteUnraisable(function);
#endif
    Py_XDECREF(function);
}

int
hl_drop_write(HLState *st, Py_ssize_t *dropped, const char *warning)
{
    PyObject *count = PyLong_FromSsize_t(*dropped), *threshold = NULL, *logged = NULL;
    if (count != NULL) {
        threshold = PyObject_GetAttrString(st->constants, "LOG_THRESHOLD_FOR_CONNLOST_WRITES");
    }
    int many = threshold != NULL ? PyObject_RichCompareBool(count, threshold, Py_GE) : -1;
    if (many > 0) {
        logged = PyObject_CallMethod(st->logger, "warning", "s", warning);
        many = logged != NULL ? 0 : -1;
    }
    if (many == 0) {
        ++*dropped;
    }
    Py_XDECREF(count);
    Py_XDECREF(threshold);
    Py_XDECREF(logged);
    return many;
}

int
hl_loop_is_debug(HLState *st, PyObject *loop)
{
    if (hl_is_loop(st, loop) && !(hl_loop_patched((HLLoop *)loop) & HL_PATCHED_GET_DEBUG)) {
        return ((HLLoop *)loop)->debug;
    }
    PyObject *debug = PyObject_CallMethodNoArgs(loop, st->name.get_debug);
    if (debug == NULL) {
        return -1;
    }
    int is_debug = PyObject_IsTrue(debug);
    Py_DECREF(debug);
    return is_debug;
}

int
hl_capture_stack(HLState *st, PyObject *loop, PyObject *extract, PyObject **stack)
{
    *stack = NULL;
    int debug = hl_loop_is_debug(st, loop);
    if (debug <= 0 || hl_is_finalizing()) {
        return debug < 0 ? -1 : 0;
    }
    *stack = PyObject_CallNoArgs(extract);
    return *stack != NULL ? 0 : -1;
}
