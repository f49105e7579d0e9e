"""Referrals that are due: judged when they qualified, rewarded when the hold ended, decided at a deadline, taken back.

Both customers are locked, sorted with all others of the batch, before anything is counted: so caps and milestones are
exact however many processes do this at once. Everything of a batch is one transaction with a constant number of
statements. A referral that cannot be done alone goes to review with the reason, and holds nobody up.

- `settling`: the batches, and what is due in one;
- `round`: what the steps of one batch share;
- `judging`, with its `evidence`: which referrals pass;
- `giving`: rewards given and taken back, `desk`: what each comes to, `booking`: what the ledger hears.
"""

from workers.rewarding.settling import settle, settle_referrals

__all__ = ["settle", "settle_referrals"]
