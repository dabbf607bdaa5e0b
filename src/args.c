/* Argument parsing: one table-driven helper for FASTCALL|KEYWORDS methods and for tp_init,
   and shorter ones for what takes context=.  Where asyncio's counterpart is a Python function it
   is called with arguments that ours does not take: nobody else words its errors as well. */

#include "hotloop.h"

static int
find_parameter(const HLParameters *parameters, PyObject *name)
{
    for (int i = 0; parameters->names[i] != NULL; i++) {
        if (PyUnicode_CompareWithASCIIString(name, parameters->names[i]) == 0) {
            return i;
        }
    }
    return -1;
}

static int
store_keyword(const HLParameters *parameters, PyObject *name, PyObject *value, PyObject **values)
{
    int i = find_parameter(parameters, name);
    if (i < 0) {
        PyErr_Format(PyExc_TypeError, "%s() got an unexpected keyword argument '%U'",
                     parameters->function, name);
        return -1;
    }
    if (values[i] != NULL) {
        PyErr_Format(PyExc_TypeError, "%s() got multiple values for argument '%U'",
                     parameters->function, name);
        return -1;
    }
    values[i] = value;
    return 0;
}

static int
store_positional(const HLParameters *parameters, PyObject *const *args, Py_ssize_t nargs,
                 PyObject **values)
{
    if (nargs > parameters->positional) {
        PyErr_Format(PyExc_TypeError, "%s() takes at most %d positional argument%s (%zd given)",
                     parameters->function, parameters->positional,
                     parameters->positional == 1 ? "" : "s", nargs);
        return -1;
    }
    for (int i = 0; parameters->names[i] != NULL; i++) {
        values[i] = i < nargs ? args[i] : NULL;
    }
    return 0;
}

static int
check_required(const HLParameters *parameters, PyObject **values)
{
    for (int i = 0; i < parameters->required; i++) {
        if (values[i] == NULL) {
            PyErr_Format(PyExc_TypeError, "%s() missing required argument '%s' (pos %d)",
                         parameters->function, parameters->names[i], i + 1);
            return -1;
        }
    }
    return 0;
}

int
hl_parse(const HLParameters *parameters, PyObject *const *args, Py_ssize_t nargs,
         PyObject *kwnames, PyObject **values)
{
    if (store_positional(parameters, args, nargs, values) < 0) {
        return -1;
    }
    Py_ssize_t nkeywords = kwnames != NULL ? PyTuple_GET_SIZE(kwnames) : 0;
    for (Py_ssize_t i = 0; i < nkeywords; i++) {
        if (store_keyword(parameters, PyTuple_GET_ITEM(kwnames, i), args[nargs + i], values) < 0) {
            return -1;
        }
    }
    return check_required(parameters, values);
}

int
hl_parse_init(const HLParameters *parameters, PyObject *args, PyObject *kwargs, PyObject **values)
{
    if (store_positional(parameters, ((PyTupleObject *)args)->ob_item, PyTuple_GET_SIZE(args),
                         values)
        < 0) {
        return -1;
    }
    PyObject *name, *value;
    Py_ssize_t position = 0;
    while (kwargs != NULL && PyDict_Next(kwargs, &position, &name, &value)) {
        if (!PyUnicode_Check(name)) {
            PyErr_SetString(PyExc_TypeError, "keywords must be strings");
            return -1;
        }
        if (store_keyword(parameters, name, value, values) < 0) {
            return -1;
        }
    }
    return check_required(parameters, values);
}

PyObject *
hl_parse_one(const char *function, const char *name, PyObject *const *args, Py_ssize_t nargs,
             PyObject *kwnames)
{
    if (nargs == 1 && kwnames == NULL) {
        return args[0];
    }
    const char *const names[] = {name, NULL};
    HLParameters parameters = {function, names, 1, 1};
    PyObject *value;
    return hl_parse(&parameters, args, nargs, kwnames, &value) < 0 ? NULL : value;
}

int
hl_parse_context(HLState *st, const char *function, PyObject *const *args, Py_ssize_t nargs,
                 PyObject *kwnames, PyObject **context)
{
    *context = NULL;
    Py_ssize_t nkeywords = kwnames != NULL ? PyTuple_GET_SIZE(kwnames) : 0;
    for (Py_ssize_t i = 0; i < nkeywords; i++) {
        PyObject *name = PyTuple_GET_ITEM(kwnames, i);
        if (name != st->name.context && PyUnicode_Compare(name, st->name.context) != 0) {
            PyErr_Format(PyExc_TypeError, "%s() got an unexpected keyword argument '%U'", function,
                         name);
            return -1;
        }
        *context = args[nargs + i] == Py_None ? NULL : args[nargs + i];
    }
    return 0;
}

static bool
store_call_keyword(HLState *st, PyObject *name, PyObject *value, PyObject *first_name,
                   HLCallArguments *call)
{
    if (PyUnicode_Compare(name, st->name.context) == 0) {
        call->context = value == Py_None ? NULL : value;
    }
    else if (call->callback == NULL && PyUnicode_Compare(name, st->name.callback) == 0) {
        call->callback = value;
    }
    else if (first_name != NULL && call->first == NULL
             && PyUnicode_Compare(name, first_name) == 0) {
        call->first = value;
    }
    else {
        return false;
    }
    return true;
}

bool
hl_parse_call(HLState *st, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames,
              PyObject *first_name, HLCallArguments *call)
{
    PyObject *const *values = args + nargs;
    *call = (HLCallArguments){NULL};
    if (first_name != NULL && nargs > 0) {
        call->first = *args++;
        nargs--;
    }
    if (nargs > 0) {
        call->callback = *args++;
        nargs--;
    }
    call->args = args;
    call->nargs = nargs;
    Py_ssize_t nkeywords = kwnames != NULL ? PyTuple_GET_SIZE(kwnames) : 0;
    for (Py_ssize_t i = 0; i < nkeywords; i++) {
        if (!store_call_keyword(st, PyTuple_GET_ITEM(kwnames, i), values[i], first_name, call)) {
            return false;
        }
    }
    return call->callback != NULL && (first_name == NULL || call->first != NULL);
}
