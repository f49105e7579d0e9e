"""The demo: a coffee roastery's weeks in less than a minute, through the real paths.

Pure, and the same for the same seed: `people` says who its customers are and `lives` what happens to them; a `story`
tells it in webhooks, in the shapes of `payloads`; `reactions` says what people do with a mail.

Of the world: an `installation` runs it all; `posting` posts signed webhooks over HTTP, `letterbox` reads the mails
that came of them, `clockwork` moves the time on, `witness` looks at what a refund takes along, and `report` counts what
came of it.
"""
