"""The only memory: tables, migrations and the queries on them; also settings, the broker and `hint()`."""
