"""The demo: a coffee roastery's weeks in less than a minute, through the real paths.

`people` says who its customers are, `lives` what happens to them, `payloads` how Shopify, Stripe and the shop's own
site tell of it, `reactions` what people do with a mail; all of these are pure, and the same seed gives the same.
`posting` posts signed webhooks over HTTP, `letterbox` reads the mails that came of them, `clockwork` moves the time
on, and `report` says what came of it all.
"""
