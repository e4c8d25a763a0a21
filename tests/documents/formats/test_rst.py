import pytest

from headwater.documents.formats import rst
from headwater.documents.parsed import Block, Rejected


def blocks(text):
    return [block for block in rst.blocks(text)[1] if block.text]


def reason(text):
    with pytest.raises(Rejected) as error:
        blocks(text)
    return error.value.reason


def test_structure_without_markup():
    text = """.. _top:

Harbour
=======

It *opens* at ``six``, see `the guide <https://evil/>`_ |x|.

.. |x| replace:: daily
.. a comment

Fees
----

- berth
- water

  is free

  1. inner

berth
  twelve crowns

:since: 1900

===== ======
a     b
===== ======
1     2
===== ======

.. note:: Mind the pier.

.. code-block:: python

   def f():
       return 1

Last
====

End.
"""
    assert blocks(text) == [
        Block("Harbour", 1),
        Block("It opens at `six`, see the guide daily."),
        Block("Fees", 2),
        Block("- berth"),
        Block("- water"),
        Block("  is free"),
        Block("  1. inner"),
        Block("berth"),
        Block("twelve crowns"),
        Block("since: 1900"),
        Block("a | b"),
        Block("1 | 2"),
        Block("Mind the pier."),
        Block("def f():\n    return 1"),
        Block("Last", 1),
        Block("End."),
    ]


def test_what_only_sphinx_knows_is_read():
    text = """Methods
=======

.. toctree::
   :maxdepth: 2

   other

Use :class:`~boats.Ferry` or :ref:`the pier <pier>`.

.. py:method:: Ferry.dock(pier)
               Ferry.land(pier)
   :async:

   Dock the ferry.

   .. versionadded:: 3.1
      The *pier*.

.. seealso::

   The guide.

After.
"""
    assert blocks(text) == [
        Block("Methods", 1),
        Block("Use boats.Ferry or the pier."),
        Block("Ferry.dock(pier)\nFerry.land(pier)", 2, "Ferry.dock(pier) Ferry.land(pier)"),
        Block("Dock the ferry."),
        Block("versionadded: 3.1 The pier."),
        Block("The guide.", 1, "Methods"),
        Block("After."),
    ]


def test_nothing_outside_the_text_is_read(tmp_path):
    secret = tmp_path / "secret.txt"
    secret.write_text("canary")
    text = f"""Text.

.. include:: {secret}
.. literalinclude:: {secret}
.. raw:: html

   <script>canary</script>

.. raw:: html
   :file: {secret}

.. csv-table:: canary table
   :file: {secret}

.. figure:: {secret}
   :figwidth: image

   Caption.

.. image:: https://evil/?q
"""
    assert blocks(text) == [Block("Text."), Block("Caption.")]


def test_a_role_of_one_document_is_unknown_in_the_next():
    assert blocks(".. role:: pier(literal)\n\n:pier:`x`") == [Block("`x`")]
    assert blocks(":pier:`x`") == [Block("x")]


def test_bounds():
    assert reason("x" * 10_001) == "line_too_long"
    assert reason("".join("  " * depth + "- a\n\n" for depth in range(400))) == "too_deep"
    assert (
        reason("".join("  " * depth + ".. unknown::\n\n" for depth in range(12)) + "  " * 12 + "x")
        == "too_deep"
    )


def test_substitutions_do_not_multiply():
    """A billion laughs: each of 6 lines says the one before it ten times."""
    lines = [".. |a0| replace:: ha"]
    lines += [f".. |a{n + 1}| replace:: " + f"|a{n}| " * 10 for n in range(6)]
    try:
        found = blocks("\n".join([*lines, "", "|a6|"]))
    except Rejected as error:
        assert error.reason in ("too_deep", "damaged_rst", "too_large")
    else:
        assert sum(len(block.text) for block in found) < 10_000
