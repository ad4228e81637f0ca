(() => {
  "use strict";
  const root = document.documentElement;
  const { charts, themes } = JSON.parse(document.getElementById("chart-data").textContent);
  const dark = matchMedia("(prefers-color-scheme: dark)");
  let drawn = [];

  async function draw() {
    const theme = dark.matches ? "dark" : "light";
    const options = {
      actions: false,
      ast: true, // expressions are interpreted: the page's policy forbids to compile them
      config: themes[theme],
      renderer: "svg",
      tooltip: { theme },
    };
    drawn.forEach((chart) => chart.finalize());
    drawn = await Promise.all(
      Object.entries(charts).map(([name, spec]) => vegaEmbed(`#chart-${name}`, spec, options)),
    );
    root.dataset.charts = theme;
  }

  function redraw() {
    draw().catch((error) => {
      root.classList.remove("js"); // back to the still pictures
      console.error(error);
    });
  }

  // What scrolls sideways must be reachable by keyboard too, and nothing else a stop on the way.
  const boxes = new ResizeObserver((entries) => {
    for (const { target } of entries) {
      const box = target.parentElement;
      if (box.scrollWidth > box.clientWidth) box.tabIndex = 0;
      else box.removeAttribute("tabindex");
    }
  });
  document.querySelectorAll(".wide > *").forEach((content) => boxes.observe(content));

  dark.addEventListener("change", redraw);
  redraw();
})();
