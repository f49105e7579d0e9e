"""Mail templates: from MJML and front matter to texts that are filled in per customer.

`afterglow.mail_templates` is the door; the files here are its steps: `sources` cuts a template into pieces,
`placeholders` hides expressions from MJML and brings them back, `markup` finds what MJML swallows without
a word, `compiling` joins everything, `lint` holds a mail to the rules for marketing and service mail.
"""
