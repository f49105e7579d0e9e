"""Ways out of template languages: known from Jinja, Django, Twig, Freemarker, Velocity, ERB, Python's format and eval.

Lists of such payloads are public; these are the kinds that matter to a language that is read with Jinja's grammar.
"""

from typing import Final

#: As expressions: none of them is one.
ESCAPES: Final = (
    *r"""
''.__class__
''.__class__.__mro__[1].__subclasses__()
().__class__.__bases__[0].__subclasses__()
[].__class__.__base__.__subclasses__()[40]('/etc/passwd').read()
{}.__class__.__init__.__globals__
self.__init__.__globals__
self.__dict__
self._TemplateReference__context.cycler.__init__.__globals__.os
cycler.__init__.__globals__.os.popen('id').read()
joiner.__init__.__globals__.os.popen('id').read()
namespace.__init__.__globals__.os.popen('id').read()
lipsum.__globals__['os'].popen('id').read()
lipsum.__globals__.os
lipsum()
range(100000000)
dict(a=1)
url_for.__globals__['current_app'].config
get_flashed_messages.__globals__['current_app']
config.items()
config.__class__.from_envvar('x')
request.__class__
request['__class__']
request['application']['__globals__']
request|attr('application')
''|attr('__class__')
''|attr(['_'*2,'class','_'*2]|join)
''|attr('\x5f\x5fclass\x5f\x5f')
''['__class__']
''['\x5f\x5fclass\x5f\x5f']
''['__cla' ~ 'ss__']
[''] | map('attr', '__class__') | list
[''] | map(attribute='__class__')
[''] | map('__class__')
[{}] | where('__class__', 1)
[{}] | sum('a.__class__')
'{0.__class__}'.format(1)
'{0.__class__}'|format(1)
'%050000000d' % 1
'%s'|format(self)
'x'|center(50000000)
'x'|indent(50000000)
'x' * 50000000 ** 2
2 ** 9999999999
'a'.join(['b'])
order.items()
order.total.as_tuple()
order.placed.strftime('%Y')
customer.first_name.upper()
x|safe
x|tojson
x|pprint
x|select('test')
x|groupby('__class__')
x|xmlattr
x|random
__builtins__
__import__('os').system('id')
eval('1')
exec('1')
open('/etc/passwd')
getattr(order, 'id')
globals()
import os
lambda: 1
[x for x in order]
a if b else c ; d
(a := 1)
a = 1
${7*7}
#{7*7}
<%= 7*7 %>
`id`
order.id; drop
*order
**order
rate(**order)
rate(*order)
rate('a')('b')
rate.__globals__
x is callable
x is sameas(y)
x is filter('attr')
caller()
super()
loop.cycle('a')
a.b.c['d'].__class__
{'__class__': 1}
order['id':]
order[order.id]
order[0.5]
order[none]
''.__class__.mro()[1].__subclasses__()
''|attr('__class__')|attr('mro')
(''|attr('__class__'))
order|attr('id')
order|map('__init__')
order|map('a.__globals__')
order|sum('__len__')
lipsum|attr('__globals__')
cycler('a','b').next()
joiner(',')()
namespace(x=1).x
url_for('index')
get_flashed_messages()
request.args.a()
request.application.__globals__
config['__class__']
self|string
x|list
x|string
x|format('a')
x|format(a=1)
x|batch(3)
x|slice(3)
x|dictsort
x|unique
x|reject('none')
x|selectattr('a')
x|urlize
x|wordwrap(1)
x|filesizeformat
x|escape
x|e
x|forceescape
x|reverse
x|sort
x|truncate(1)
x|wordcount
x|max
x|abs
x|float
x is odd
x is divisibleby 3
x is iterable
x is string
x is in [1]
x is eq 1
x is test
'a' 'b'.upper()
'%c' % 65
'a' % 1
'{}'.format(x)
f'{order.id}'
b'x'
1 if x else __import__
9 ** 9 ** 9
10 ** 10000000
1 // 0
x & y
x | y | z()
x ^ y
~x
x << 999999
x <> y
x === y
x && y
x || y
!x
not
x and
x..y
.x
x.
x[]
x[::]
x[1,2]
x['a' 'b']()
x['__' 'class__']
{}['__class__']
{'a': 1}.items()
[1].append(2)
(1).bit_length()
'x'.encode()
none.__class__
true.__class__
1.__class__
1.0.real()
(x).__class__
x.__class__
x.__dict__
x.__getattribute__
x.y.__init__
x['__init__']
x["__globals__"]
x['\x5f\x5fdict\x5f\x5f']
x['\u005f\u005fdict\u005f\u005f']
x.a['__builtins__'].b
{{x}}
{% x %}
{# x #}
x}}{{y
x %} {% y
x;y
x=y
x:=y
yield x
await x
async x
del x
x for x in y
lambda x: x
print(x)
exit()
help()
vars()
dir()
type(x)
object()
str(x)
int(x)
repr(x)
chr(65)
input()
compile('1')
setattr(x, 'y', 1)
debug()
_('x')
gettext('x')
ngettext('x', 'y', 2)
varargs()
kwargs()
caller.x()
loop.index()
loop.previtem()
super.__init__
self.block()
environment.x()
env('SECRET')
settings.secret()
os.environ()
rate('a', x=1)
rate(x.y)
rate(rate('a'))
rate(__class__)
rate([1])
rate({'a': 1})
referral_link(customer)
referral_link.__globals__['os']
referral_link('a').__class__()
999999999999999999999999999999999999999
1e99999
0x
1_
'unclosed
"unclosed
'\ud800'
""".strip("\n").splitlines(),
    "order.\uff3f\uff3fclass\uff3f\uff3f",
    "order._\u200b_class__",
    "order\u2024__class__",
    "x" + ".a" * 40,
    "(" * 100 + "x" + ")" * 100,
)

#: As texts: blocks that Jinja has and this language has not, and marks that never end.
BLOCKS: Final = (
    "{% macro m() %}{% endmacro %}",
    "{% import 'x' as y %}",
    "{% from 'x' import y %}",
    "{% include '/etc/passwd' %}",
    "{% include x ignore missing %}",
    "{% extends 'x' %}",
    "{% block b %}{% endblock %}",
    "{% set x = 1 %}",
    "{% set x %}a{% endset %}",
    "{% set ns.x = 1 %}",
    "{% call m() %}{% endcall %}",
    "{% filter upper %}a{% endfilter %}",
    "{% with x = 1 %}{% endwith %}",
    "{% autoescape false %}{% endautoescape %}",
    "{% raw %}{{ x }}{% endraw %}",
    "{% do x.append(1) %}",
    "{% trans %}a{% endtrans %}",
    "{% break %}",
    "{% continue %}",
    "{% debug %}",
    "{% print x %}",
    "{% for k, v in x.items() %}{% endfor %}",
    "{% for k, v in x %}{% endfor %}",
    "{% for x in y recursive %}{% endfor %}",
    "{% for x in y if x %}{% endfor %}",
    "{% for x in y %}{% else %}none{% endfor %}",
    "{% for x in range(1000000000) %}{% endfor %}",
    "{% for __class__ in y %}{% endfor %}",
    "{% for x in y %}{{ loop.cycle('a') }}{% endfor %}",
    "{% for a in x %}{% for b in a %}{% for c in b %}{% endfor %}{% endfor %}{% endfor %}",
    "{% if x %}" * 12 + "{% endif %}" * 12,
    "{% if x %}",
    "{% endif %}",
    "{% for x in y %}",
    "{% while true %}{% endwhile %}",
    "{{ x",
    "{% x",
    "{# x",
    "{{ }}",
    "{{ {{ x }} }}",
    "{{ x }}{{ y.__class__ }}",
    "{% if ''.__class__ %}{% endif %}",
    "{{ '" + "x" * 2000 + "' | upper }}{{ y | upper() | safe }}",
    "{{ " + "(" * 200 + "x" + ")" * 200 + " }}",
    "{{ " + "[" * 200 + "x" + "]" * 200 + " }}",
    "{{ " + "not " * 200 + "x }}",
    "{{ " + "-" * 200 + "x }}",
    "{{ x" + ".a" * 200 + " }}",
    "{{ x" + " | upper" * 200 + " }}",
    "{{ " + " ~ ".join(["x"] * 400) + " }}",
)

#: Expressions that can be read and look like a way out: each is a name of data, and there is no such data.
HARMLESS: Final = (
    "config",
    "config.SECRET_KEY",
    "request",
    "request.application",
    "self",
    "lipsum",
    "cycler",
    "joiner",
    "namespace",
    "range",
    "dict",
    "loop.parent",
    "os.environ.AFTERGLOW_SECRET",
    "env.AFTERGLOW_SECRET",
    "AFTERGLOW_SECRET",
    "AFTERGLOW_DATABASE_URL",
    "settings.secret",
    "secrets[0]",
    "shop.secret",
    "shop.secrets",
    "shop.settings.secret",
    "customer.secret",
    "customer.token",
    "order.items.append",
    "order.id.upper",
    "order.total.real",
    "order.placed.tzinfo",
    "order.keys",
    "order.get",
    "order.pop",
    "order.items[0].clear",
    "order['\uff3f\uff3fclass\uff3f\uff3f']",  # fullwidth: as an identifier Python would read it as __class__
    "order['\u200b__class__']",
    "order[' __class__']",
    "order['a.__class__']",
    "order._class",
    "order.class_",
    "order._",
    "order['%s']",
    "order['{0}']",
    "order['../../etc/passwd']",
    "order['\\x00']",
    "order[99999999999]",
    "order.items[-99999]",
)
