"""Hold a mail to the rules: what marketing must carry, and what service mail must not."""

from afterglow.mail.template import Mail
from afterglow.problems import Problem

#: Gmail cuts a message off after about 102 KB of HTML and hides the rest, the unsubscribe link included.
LARGEST_HTML = 102 * 1024
#: Inboxes show 40 to 60 characters of a subject; this many is a mistake.
LONGEST_SUBJECT = 100


def lint_mail(mail: Mail, *, topic: str | None = None) -> list[Problem]:
    """What breaks the rules in a mail.

    Parameters:
      topic: the topic of the flow that sends it, which stands in where the template names none.
    """
    match mail.kind:
        case "marketing":
            problems = _marketing(mail, topic)
        case "service":
            problems = _service(mail)
        case "team":
            problems = []
    if mail.size > LARGEST_HTML:
        message = f"The HTML is {mail.size // 1024} KB; Gmail cuts a mail off after 102 KB."
        problems.append(mail.problem("kind", message))
    if mail.subject_letters > LONGEST_SUBJECT:
        message = f"The subject is {mail.subject_letters} characters long; inboxes show 40 to 60 of them."
        problems.append(mail.problem("subject", message))
    return problems


def _marketing(mail: Mail, flow_topic: str | None) -> list[Problem]:
    problems = []
    if mail.topic is None and flow_topic is None:
        message = "A marketing mail needs a topic that a customer can refuse: give it one here or in the flow."
        problems.append(mail.problem("kind", message))
    for part, names in (("HTML", mail.html.names), ("text", mail.text.names)):
        for name in ("unsubscribe_url", "shop.postal_address"):
            if name not in names:
                message = f"A marketing mail needs {{{{ {name} }}}} in its {part} part; put it in the footer."
                problems.append(mail.problem("kind", message))
    return problems


def _service(mail: Mail) -> list[Problem]:
    problems = []
    if mail.topic is not None:
        message = "A service mail has no topic, since nobody can refuse it; remove the topic or make it marketing."
        problems.append(mail.problem("topic", message))
    if any(function == "referral_link" for function, _ in mail.calls):
        message = "A service mail carries no invitation; make it marketing, or remove the referral_link."
        problems.append(mail.problem("referral_link", message))
    if "shop.review_url" in mail.names:
        message = "A service mail asks for no review; make it marketing, or remove shop.review_url."
        problems.append(mail.problem("kind", message))
    return problems
