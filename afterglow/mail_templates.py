"""Mail templates: compile once, load, fill in for each customer, hold to the rules.

A template is `templates/email/NAME.mjml`: front matter, then MJML sections, with expressions in both. Beside
it stand `NAME.txt` (the text part; derived where absent), the layout and a footer for each kind of mail.
"""

from afterglow.mail.compiling import MARKERS, CompiledMail, compile_mail
from afterglow.mail.lint import LARGEST_HTML, LONGEST_SUBJECT, lint_mail
from afterglow.mail.sources import FrontMatter, Kind
from afterglow.mail.template import Mail, Rendered, load_mail, render_mail, render_subject, with_shop

__all__ = [
    "LARGEST_HTML",
    "LONGEST_SUBJECT",
    "MARKERS",
    "CompiledMail",
    "FrontMatter",
    "Kind",
    "Mail",
    "Rendered",
    "compile_mail",
    "lint_mail",
    "load_mail",
    "render_mail",
    "render_subject",
    "with_shop",
]
