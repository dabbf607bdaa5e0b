"""Functions of asyncio's, to the letter, that see other globals than asyncio's."""

import functools
import types


def with_globals(function, **names):
    """Return the function with these names in place of its module's."""
    ours = types.FunctionType(
        function.__code__,
        {**function.__globals__, **names},
        function.__name__,
        function.__defaults__,
        function.__closure__,
    )
    ours.__kwdefaults__ = function.__kwdefaults__
    return functools.update_wrapper(ours, function)
