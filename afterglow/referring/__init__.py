"""What referral programmes decide, as pure functions: whose friend somebody is, whether that counts, what both get.

- `attribution`: touches, and which of them says who the referrer is;
- `qualification`: whether an event of the referee makes the referral count, also after refunds;
- `fraud`: what speaks against a referral, with numbers and names of rules, never with personal data;
- `rewarding`: who gets what, with caps and milestones.
"""
