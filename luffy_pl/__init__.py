"""luffy-pl: learning to reason under off-policy guidance."""

from luffy_pl.process.moved import install

install()
