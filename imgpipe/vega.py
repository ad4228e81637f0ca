"""Vega, Vega-Lite and vega-embed as one script, for pages that draw charts without a network."""

import vl_convert

_EXPORT = "window.vegaEmbed = vegaEmbed;"


def load_vega_script() -> str:
    """Return JavaScript for a `<script>` element, which defines the function `vegaEmbed`.

    Bundling takes two seconds, the first time in a process.

    It needs no network, also in a page opened from disk, and adds no other global name: what
    follows it may call its variables as it likes. (`vega` and `vegaLite`, which vl-convert's own
    bundle would add, are null there: these libraries have no default export.)
    """
    script = vl_convert.javascript_bundle(_EXPORT)
    # Within a string of JavaScript these mean the same, and cannot end or comment out the element.
    script = script.replace("</script", "<\\/script").replace("<!--", "<\\!--")
    return f'(() => {{\n"use strict";\n{script}\n}})();'
