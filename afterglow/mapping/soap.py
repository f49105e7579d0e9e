"""Bodies in SOAP, as Salesforce posts its outbound messages: read into the plain values that rules read.

XML is read as strictly as JSON: no declarations, so that nothing can expand or be fetched; a bounded depth; a bounded
number of elements. Whatever a stranger sends, only Unmappable comes out.
"""

from typing import Any, Final
from xml.parsers import expat

from afterglow.mapping.facts import Unmappable

#: How deep a message may nest; Salesforce's stay below 8.
MAX_DEPTH: Final = 32
#: The most XML elements of one message; Salesforce's largest (100 records of 100 fields) holds about half.
MAX_ELEMENTS: Final = 20_000
#: Under this name a part knows what its message says of itself.
MESSAGE: Final = "message"


def read_soap(body: bytes) -> dict[str, Any]:
    """The message of a SOAP envelope, names without their namespaces.

    An element with children is a dictionary, one that stands several times a list, any other its text; empty ones and
    those marked `xsi:nil` are None. What `xsi:type` says stands under `type`. A SessionId is left out: it would open
    the sender's house to whoever reads our inbox.

    Raises:
      Unmappable: what is wrong with it, and where.
    """
    reader = _XmlReader()
    parser = expat.ParserCreate(namespace_separator=" ")
    parser.buffer_text = True
    parser.StartElementHandler = reader.start
    parser.EndElementHandler = reader.end
    parser.CharacterDataHandler = reader.text
    parser.StartDoctypeDeclHandler = _refuse_declaration
    parser.EntityDeclHandler = _refuse_declaration
    try:
        parser.Parse(body, True)
    except expat.ExpatError as error:
        what = expat.ErrorString(error.code)
        raise Unmappable(f"The body is not XML: {what} in line {error.lineno}, column {error.offset}.") from None
    except (LookupError, ValueError):  # an encoding that nobody knows, or one of several bytes that expat cannot read
        raise Unmappable("The body is XML in an encoding that cannot be read.") from None
    message = _message(reader.root)
    if message is None:
        raise Unmappable("The body is XML, but no SOAP envelope with a message in it.")
    return message


def divided(message: Any, parts: Any) -> Any:
    """The parts of a message, each with what the message says of itself under `message`.

    One part is not told from a list of one in XML, so it is taken for such a list.
    """
    if isinstance(parts, dict):
        parts = [parts]
    if not isinstance(parts, list):
        return parts
    said = {name: value for name, value in message.items() if isinstance(value, str)}
    return [{**part, MESSAGE: said} if isinstance(part, dict) else part for part in parts]


def _message(root: dict[str, Any]) -> dict[str, Any] | None:
    envelope = root.get("Envelope")
    inside = envelope.get("Body") if isinstance(envelope, dict) else None
    if not isinstance(inside, dict):
        return None
    messages = [value for name, value in inside.items() if name != "type"]
    return messages[0] if len(messages) == 1 and isinstance(messages[0], dict) else None


def _refuse_declaration(*_: object) -> None:
    raise Unmappable("The XML declares a document type or an entity, which no message needs.")


_XSI: Final = "http://www.w3.org/2001/XMLSchema-instance"
_SECRET_ELEMENTS: Final = frozenset({"SessionId"})


class _XmlReader:
    """Builds plain values from what expat sees."""

    def __init__(self) -> None:
        self.root: dict[str, Any] = {}
        #: The open elements: what they hold, their text, whether they are nil.
        self._open: list[tuple[dict[str, Any], list[str], bool]] = [(self.root, [], False)]
        self._elements = 0

    def start(self, name: str, attributes: dict[str, str]) -> None:
        self._elements += 1
        if len(self._open) > MAX_DEPTH:
            raise Unmappable(f"The body is nested more than {MAX_DEPTH} deep.")
        if self._elements > MAX_ELEMENTS:
            raise Unmappable(f"The XML holds more than {MAX_ELEMENTS} elements.")
        holds = {"type": _local(kind, ":")} if (kind := attributes.get(f"{_XSI} type")) else {}
        self._open.append((holds, [], attributes.get(f"{_XSI} nil") in ("true", "1")))

    def text(self, part: str) -> None:
        self._open[-1][1].append(part)

    def end(self, name: str) -> None:
        holds, parts, is_nil = self._open.pop()
        local = _local(name, " ")
        if local in _SECRET_ELEMENTS:
            return
        text = "".join(parts).strip()
        has_children = len(holds) > ("type" in holds)
        value: Any = None if is_nil else holds if has_children else text or None
        around = self._open[-1][0]
        if local not in around:
            around[local] = value
        elif type(around[local]) is list:
            around[local].append(value)
        else:
            around[local] = [around[local], value]


def _local(name: str, separator: str) -> str:
    return name.rpartition(separator)[2]


#: As Salesforce wants it, to the letter: anything else counts as not delivered.
ACKNOWLEDGEMENT: Final = (
    b'<?xml version="1.0" encoding="UTF-8"?>'
    b'<soapenv:Envelope xmlns:soapenv="http://schemas.xmlsoap.org/soap/envelope/"><soapenv:Body>'
    b'<notificationsResponse xmlns="http://soap.sforce.com/2005/09/outbound"><Ack>true</Ack></notificationsResponse>'
    b"</soapenv:Body></soapenv:Envelope>"
)
