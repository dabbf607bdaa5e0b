/* hotloop._core: multi-phase initialisation.  Each file sets up its own types.

   A module keeps itself, and so its state, alive for as long as its interpreter lives: objects
   of our types look at the state until they are freed, and when the interpreter ends the garbage
   collector may clear a type, and with it the type's hold on the module, before its instances. */

#include "hotloop.h"
#include "executor.h"

static HLState *
get_state(PyObject *module)
{
    return PyModule_GetState(module);
}

static int
intern_names(HLNames *names)
{
    const struct {
        PyObject **field;
        const char *text;
    } all[] = {
#define X(identifier) {&names->identifier, #identifier},
        HL_NAMES(X)
#undef X
    };
    for (size_t i = 0; i < Py_ARRAY_LENGTH(all); i++) {
        *all[i].field = PyUnicode_InternFromString(all[i].text);
        if (*all[i].field == NULL) {
            return -1;
        }
    }
    return 0;
}

static PyObject *
import_attribute(const char *module_name, const char *attribute)
{
    PyObject *module = PyImport_ImportModule(module_name);
    PyObject *value = module != NULL ? PyObject_GetAttrString(module, attribute) : NULL;
    Py_XDECREF(module);
    return value;
}

static int
import_all(HLState *st)
{
    const struct {
        PyObject **field;
        const char *module, *attribute;
        bool optional;
    } imports[] = {
#define X(field, module, attribute) {&st->field, module, attribute, false},
        HL_IMPORTS(X)
#undef X
#define X(field, module, attribute) {&st->field, module, attribute, true},
            HL_OPTIONAL_IMPORTS(X)
#undef X
    };
    for (size_t i = 0; i < Py_ARRAY_LENGTH(imports); i++) {
        *imports[i].field = import_attribute(imports[i].module, imports[i].attribute);
        if (*imports[i].field != NULL) {
            continue;
        }
        if (!imports[i].optional || !PyErr_ExceptionMatches(PyExc_AttributeError)) {
            return -1;
        }
        PyErr_Clear();
    }
    return 0;
}

/* An int attribute of function.__code__. */
static int
code_attribute(PyObject *function, const char *attribute, long *value)
{
    PyObject *code = PyObject_GetAttrString(function, "__code__");
    PyObject *number = code != NULL ? PyObject_GetAttrString(code, attribute) : NULL;
    *value = number != NULL ? PyLong_AsLong(number) : -1;
    Py_XDECREF(code);
    Py_XDECREF(number);
    return PyErr_Occurred() ? -1 : 0;
}

/* Does method's code hold a string constant that begins so? */
static int
says(PyObject *type, const char *method, const char *text)
{
    int found = 0;
    PyObject *function = PyObject_GetAttrString(type, method);
    PyObject *code = function != NULL ? PyObject_GetAttrString(function, "__code__") : NULL;
    PyObject *constants = code != NULL ? PyObject_GetAttrString(code, "co_consts") : NULL;
    Py_ssize_t count = constants != NULL ? PyTuple_Size(constants) : -1;
    for (Py_ssize_t i = 0; i < count; i++) {
        PyObject *constant = PyTuple_GET_ITEM(constants, i);
        const char *string = PyUnicode_Check(constant) ? PyUnicode_AsUTF8(constant) : NULL;
        found |= string != NULL && strncmp(string, text, strlen(text)) == 0;
    }
    Py_XDECREF(constants);
    Py_XDECREF(code);
    Py_XDECREF(function);
    return PyErr_Occurred() ? -1 : found;
}

static int
ask_about_transports(HLState *st)
{
    long parameters;
    PyObject *attach = PyObject_GetAttrString(st->StockServer, "_attach");
    int rc = attach != NULL ? code_attribute(attach, "co_argcount", &parameters) : -1;
    st->server_attach = attach;
    st->server_detach = PyObject_GetAttrString(st->StockServer, "_detach");
    if (st->server_detach == NULL) {
        rc = -1;
    }
    if (rc == 0) {
        st->server_knows_transports = parameters > 1;
        st->write_names_types = says(st->StockStream, "write",
                                     "data argument must be a bytes, bytearray");
    }
    return rc < 0 || st->write_names_types < 0 ? -1 : 0;
}

/* What differs between patch releases is asked of the running asyncio, not of its version. */
static int
ask_asyncio(HLState *st)
{
    long keywords, flags;
    PyObject *create_task = PyObject_GetAttrString(st->SelectorEventLoop, "create_task");
    int rc = create_task == NULL || code_attribute(create_task, "co_flags", &flags) < 0
                     || code_attribute(st->format_callback_source, "co_kwonlyargcount", &keywords)
                            < 0
                 ? -1
                 : 0;
    Py_XDECREF(create_task);
    if (rc == 0) {
        st->create_task_takes_kwargs = (flags & CO_VARKEYWORDS) != 0;
        st->format_takes_debug = keywords > 0;
    }
    return rc;
}

static int
ask_about_asserts(HLState *st)
{
    PyObject *flags = PySys_GetObject("flags"); /* borrowed */
    PyObject *optimize = flags != NULL ? PyObject_GetAttrString(flags, "optimize") : NULL;
    int without = optimize != NULL ? PyObject_IsTrue(optimize) : -1;
    Py_XDECREF(optimize);
    st->asserts = without == 0;
    return without < 0 ? -1 : 0;
}

static PyObject *
make_do_nothing(void)
{
    PyObject *globals = PyDict_New();
    PyObject *function = globals != NULL
                             ? PyRun_String("lambda: None", Py_eval_input, globals, globals)
                             : NULL;
    Py_XDECREF(globals);
    return function;
}

/* ---- Module functions ---- */

static PyObject *
libuv_version(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(ignored))
{
    return PyUnicode_FromString(uv_version_string());
}

static PyMethodDef module_methods[] = {
    {"libuv_version", libuv_version, METH_NOARGS,
     "libuv_version($module, /)\n--\n\nReturn the version of the libuv in use, such as '1.44.2'."},
    {"_before_fork", hl_process_before_fork, METH_O,
     "_before_fork($module, running, /)\n--\n\nPrepare the running loop, if it is one, for os.fork()."},
    {NULL, NULL, 0, NULL},
};

/* ---- Life ---- */

static int
module_exec(PyObject *module)
{
    HLState *st = get_state(module);
    hl_process_setup();
    if (intern_names(&st->name) < 0 || import_all(st) < 0 || ask_asyncio(st) < 0
        || ask_about_transports(st) < 0 || ask_about_asserts(st) < 0) {
        return -1;
    }
    st->context_kwname = PyTuple_Pack(1, st->name.context);
    st->do_nothing = make_do_nothing();
    if (st->context_kwname == NULL || st->do_nothing == NULL) {
        return -1;
    }
    if (hl_loop_setup(module, st) < 0 || hl_handle_setup(module, st) < 0
        || hl_future_setup(module, st) < 0 || hl_awaiting_setup(module, st) < 0
        || hl_task_setup(module, st) < 0 || hl_stream_setup(module, st) < 0
        || hl_server_setup(module, st) < 0 || hl_sock_setup(module, st) < 0
        || hl_call_setup(module, st) < 0 || hl_child_setup(module, st) < 0
        || hl_pool_setup(module, st) < 0 || hl_pipe_setup(module, st) < 0) {
        return -1;
    }
    if (hl_introspect_setup(module, st) < 0 || hl_datagram_setup(module, st) < 0
        || hl_streambuffer_setup(module, st) < 0 || hl_tls_setup(module, st) < 0) {
        return -1;
    }
    Py_INCREF(module);
    return 0;
}

static PyModuleDef_Slot module_slots[] = {
    {Py_mod_exec, module_exec},
#if PY_VERSION_HEX >= 0x030C0000
    {Py_mod_multiple_interpreters, Py_MOD_PER_INTERPRETER_GIL_SUPPORTED},
#endif
    {0, NULL},
};

struct PyModuleDef hl_module_def = {
    PyModuleDef_HEAD_INIT,
    .m_name = "hotloop._core",
    .m_doc = "The C core of hotloop: loop, handles, timers, futures and tasks over libuv.",
    .m_size = sizeof(HLState),
    .m_methods = module_methods,
    .m_slots = module_slots,
};

PyMODINIT_FUNC PyInit__core(void);

PyMODINIT_FUNC
PyInit__core(void)
{
    return PyModuleDef_Init(&hl_module_def);
}
