"""Flow files: what stands in the YAML, and the graph of steps it is compiled to.

A marketer writes an ordered list with nested branches; `decide` walks a graph in which every step knows the next.
Positions of customers hang on step ids, so ids are unique in a flow and do not depend on order.

- `models`: what stands in the YAML, with the descriptions that editors show;
- `graph`: a compiled flow, its steps, and what may follow each;
- `compiler`: from the one to the other, and `step_compiler` for the steps.
"""
