"""A small shop of one flow and two mails without a problem, and what `check` says when something is changed in it."""

from afterglow.language.check import check_files

SHOP = """\
name: Ember
url: https://ember.example
sender: {name: Ember, address: hello@ember.example}
postal_address: 1 Yard
currency: EUR
timezone: Europe/Paris
review_url: https://ember.example/reviews
links: {guide: https://ember.example/guide}
topics: {coffee-care: {label: Care}, news: {label: News}}
teams: {customer-care: {address: care@ember.example}}
priority: [first-order]
attributes: {open_ticket: yes-no, points: number, birthday: date}
events: {tasting.booked: {tasting.at: date, tasting.seats: number}}
"""
STAGES = "stages: [{stage: awareness}, {stage: purchase}, {stage: advocacy}]\n"
SOURCE = """\
source: till
auth: none
key: body.id
events:
  - when: body.type == "paid"
    event: order.paid
    stage: purchase
    customer: {id: body.customer}
    payload:
      order:
        id: body.order | text
        total: body.total | number
        paid_at: body.at | iso
        items: {each: body.items, fields: {title: item.title | text, quantity: item.quantity | int}}
  - when: body.type == "delivered"
    event: order.delivered
    customer: {id: body.customer}
    payload: {order: {id: body.order | text}, parcel: {weight: body.weight | number}}
  - event: order.refunded
    customer: {id: body.customer}
    payload: {order: {id: body.order | number}}
"""
FLOW = """\
flow: first-order
about: Thank and listen
status: live
starts: {stage: purchase, when: customer.orders == 1}
once_per: order.id
topic: coffee-care
steps:
  - send: email/thanks
  - id: arrival
    wait_for: order.delivered
    same: order.id
    for_up_to: 10 days
  - send: email/check-in
  - id: answer
    wait_for: survey.answered
    for_up_to: 7 days
    arrived:
      - id: unhappy
        if: answer.score <= 2
        then:
          - notify: customer-care
            about: "Rated {{ answer.score }}"
"""
THANKS = """\
---
kind: service
subject: Thank you
preheader: It is in
---
<mj-section><mj-column>
  <mj-text>Hi {{ customer.first_name | default("there") }}, order {{ order.id }}</mj-text>
</mj-column></mj-section>
"""
CHECK_IN = """\
---
kind: marketing
subject: How is it?
preheader: One tap
---
<mj-section><mj-column>
  <mj-text><a href="{{ rate("answer", 5) }}">Lovely</a></mj-text>
</mj-column></mj-section>
"""
LAYOUT = "<mjml><mj-body>{{ body }}<mj-section><mj-column>{{ footer }}</mj-column></mj-section></mj-body></mjml>"
FOOTER = "{{ shop.postal_address }} {{ unsubscribe_url }}"
FILES = {
    "flows/shop.yaml": SHOP,
    "flows/stages.yaml": STAGES,
    "flows/sources/till.yaml": SOURCE,
    "flows/first-order.yaml": FLOW,
    "templates/email/thanks.mjml": THANKS,
    "templates/email/thanks.txt": "Thank you for order {{ order.id }}\n",
    "templates/email/check-in.mjml": CHECK_IN,
    "templates/email/_layout.mjml": LAYOUT,
    "templates/email/_layout.txt": "{{ body }}\n--\n{{ footer }}\n",
    "templates/email/_footer-marketing.mjml": f"<mj-text>{FOOTER}</mj-text>",
    "templates/email/_footer-marketing.txt": FOOTER,
    "templates/email/_footer-service.mjml": "<mj-text>{{ shop.postal_address }}</mj-text>",
    "templates/email/_footer-service.txt": "{{ shop.postal_address }}",
    "templates/email/_footer-team.mjml": "<mj-text>{{ team }}</mj-text>",
    "templates/email/_footer-team.txt": "{{ team }}",
    "templates/email/_notify.mjml": "---\nkind: team\nsubject: Look\npreheader: Please\n---\n"
    "<mj-section><mj-column><mj-text>{{ about }} {{ customer_url }}</mj-text></mj-column></mj-section>\n",
}
FLOW_FILE = "flows/first-order.yaml"
THANKS_FILE = "templates/email/thanks.mjml"
CHECK_IN_FILE = "templates/email/check-in.mjml"


def said(*changes: tuple[str, str, str]) -> list[str]:
    """What check says after changes, each (file, old text, new text)."""
    files = dict(FILES)
    for file, old, new in changes:
        assert old in files.get(file, ""), f"{old!r} is not in {file}"
        files[file] = files[file].replace(old, new, 1)
    return [str(problem) for problem in check_files(files)]
