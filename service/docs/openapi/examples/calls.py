"""The example of each operation, by the name of its handler."""

from collections.abc import Mapping

from service.docs.openapi.examples import leads, service, webhooks
from service.docs.openapi.examples.call import Call
from service.http.operations import Operation

CALLS: Mapping[str, Call] = {**leads.CALLS, **webhooks.CALLS, **service.CALLS}


def find_call(operation: Operation) -> Call:
    """The example of an operation."""
    return CALLS[operation.handler.__name__]
