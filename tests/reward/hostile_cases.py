r"""Texts that are built, or that happen, to stop a grader: they hang it, fill memory or crash it.

None of them is a right answer to a gold of `2\sqrt{3}`.
"""

from reward_cases import HANGING

_DETERMINANT = (
    r"\det\begin{pmatrix}"
    + r"\\".join("&".join(f"a_{{{i}{j}}}" for j in range(8)) for i in range(8))
    + r"\end{pmatrix}"
)

# Of evaluation: numbers and expressions that grow.
GROWING = [
    r"(x+1)^{1000}-x",
    r"(x+y+z)^{300}",
    r"\frac{(a+b)^{99}}{(a-b)^{99}}",
    _DETERMINANT,
    r"\sum_{n=0}^{\infty}\frac{\sin(n^n)}{n!}",
    r"\lim_{x\to 0}\frac{\sin(\tan x)-\tan(\sin x)}{\arcsin(\arctan x)-\arctan(\arcsin x)}",
    r"\int_0^\infty x^{x^{-x}}dx",
    r"\int e^{\sin x}\ln(\cos x)dx",
    r"\sin(\cos(\tan(\sin(\cos(\tan(\sin(\cos(\tan(x)))))))))",
    r"\sin(10^{9999})",
    r"e^{e^{e^{e^{3}}}}",
    r"3^{3^{3^{3}}}",
    r"7^{7^{7}}",
    r"(((9^9)^9)^9)^9",
    r"(10^{9999})^{9999}",
    "9999!",
    "3!!!!!",
    r"\binom{9999}{4999}",
    r"\binom{10^6}{10^5}",
    r"\Gamma(9999)",
    r"\sqrt[1000]{10^{1000}+1}",
    r"\log_{1.0000001} 10^{300}",
    r"|".join(["x"] * 60),
    "+".join(rf"\sqrt{{{n}}}" for n in range(2, 60)),
    r"\cdot".join(rf"(x-{n})" for n in range(1, 60)),
    "x^" * 100 + "2",
    "1" * 399,
    "0." + "9" * 390,
    "1e999999999",
    r"\zeta(\frac12+10^{9}i)",
    r"\prod_{p=2}^{999}(1-\frac1{p^2})",
    r"\{x : x^{99}+x^{98}+1=0\}",
    r"\bigcup_{n=1}^{999}[n,n+\frac12]",
    r"999999999999999999989 \cdot 999999999999999999961 \bmod 10^{40}",
]
# Of reading: brackets, boxes and regular expressions.
MALFORMED = [
    r"\boxed{" * 5000,
    r"\boxed{" * 3000 + "1" + "}" * 3000,
    "{" * 30000,
    "}" * 30000 + r"\boxed{1}",
    r"\( " * 5000,
    r"\[ " * 10000,
    "1 " * 30000,
    r"final answer is \( " * 5000,
    "$" * 20001,
    "(" * 30000,
    "#### " * 10000,
    "answer: " * 5000,
    r"\boxed{\frac" + "{1}" * 400 + "}",
    r"\boxed{" + r"\left(" * 100 + "}",
    r"\boxed{" + r"\begin{pmatrix}" * 40 + "}",
    r"\boxed{\text{" + r"\text{" * 60 + "}" * 62,
    "\\boxed{1\x00\x01\u202e2}",
    "\\boxed{\ud800\udfff}",
    r"\boxed{" + "½" * 300 + "}",
    r"\boxed{" + "1," * 200 + "}",
    r"\boxed{" + "and or " * 60 + "}",
    r"\boxed{" + "=" * 400 + "}",
    r"\boxed{" + r"\pm 1" * 80 + "}",
]
# Of code.
CODE = [
    r'\boxed{__import__("os")._exit(1)}',
    r'\boxed{eval("9**9**9")}',
    r"\boxed{().__class__.__base__.__subclasses__()}",
    r"\boxed{\input{/etc/passwd}}",
    r"\boxed{lambda: (lambda: 0)()}",
]
HOSTILE = [rf"\boxed{{{answer}}}" for answer in HANGING + GROWING] + MALFORMED + CODE
