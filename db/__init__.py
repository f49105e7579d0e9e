"""The only memory: tables, migrations and the queries that read and write them; also settings, the broker and `hint()`."""
