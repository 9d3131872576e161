// The console works without this file. It adds: live pages, charts, copy buttons, questions before deleting, order by drag.
(() => {
  "use strict";

  const LIVE_MS = 4000;
  const charts = new Map();

  const announce = (text) => {
    const place = document.getElementById("announcer");
    if (place) place.textContent = text;
  };

  // Live: pages that can change say so with hx-trigger="live from:body". Nobody's typing or reading with the keyboard is disturbed.
  const busy = () => {
    const live = document.getElementById("live");
    const active = document.activeElement;
    return !live || live.querySelector("details[open]") !== null || (live.contains(active) && active.matches("input, select, textarea, button, summary, a"));
  };
  setInterval(() => {
    if (document.visibilityState === "visible" && !busy() && window.getSelection().isCollapsed) {
      document.body.dispatchEvent(new CustomEvent("live"));
    }
  }, LIVE_MS);

  // Charts
  const written = {
    nusd: (value) => {
      const dollars = value / 1e9;
      const digits = dollars !== 0 && Math.abs(dollars) < 0.01 ? 6 : 2;
      return "$" + dollars.toLocaleString("en", { minimumFractionDigits: 2, maximumFractionDigits: digits });
    },
    count: (value) => value.toLocaleString("en"),
    ms: (value) => (value >= 1000 ? (value / 1000).toFixed(1) + " s" : Math.round(value) + " ms"),
    percent: (value) => value.toFixed(1) + "%",
  };
  const short = {
    ...written,
    count: (value) => Intl.NumberFormat("en", { notation: "compact" }).format(value),
  };
  const empty = { nusd: 1e9, count: 10, ms: 1000, percent: 100 };  // how high a chart is in which nothing happened
  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

  const settings = (told) => {
    const stacked = told.kind === "bar";
    const datasets = told.rows.map((row, place) => {
      const shade = colour("--c" + (row.name === "other" ? 9 : (place % 8) + 1));
      return { label: row.name, data: row.values, href: row.href, backgroundColor: shade, borderColor: shade, borderWidth: stacked ? 0 : 2, pointRadius: 0, maxBarThickness: 36 };
    });
    const go = (href) => { if (href) window.location.assign(href); };
    return {
      type: told.kind,
      data: { labels: told.labels, datasets },
      options: {
        animation: false,
        responsive: true,
        maintainAspectRatio: false,
        interaction: { mode: "nearest", intersect: stacked },
        onClick: (_event, found) => { if (found.length) go(datasets[found[0].datasetIndex].href || told.hrefs[found[0].index]); },
        onHover: (event, found) => { event.native.target.classList.toggle("points", found.length > 0); },
        scales: {
          x: { stacked, grid: { display: false }, ticks: { color: colour("--quiet"), maxRotation: 0, autoSkipPadding: 16 } },
          y: { stacked, beginAtZero: true, border: { display: false }, grid: { color: colour("--line") }, suggestedMax: told.rows.some((row) => row.values.some(Boolean)) ? undefined : empty[told.unit], ticks: { color: colour("--quiet"), maxTicksLimit: 6, callback: (value) => short[told.unit](value) } },
        },
        plugins: {
          legend: { display: told.rows.length > 1, position: "bottom", labels: { color: colour("--ink"), boxWidth: 12, boxHeight: 12 }, onClick: (_event, item) => go(datasets[item.datasetIndex].href) },
          tooltip: { callbacks: { label: (item) => ` ${item.dataset.label}: ${written[told.unit](item.parsed.y)}` } },
        },
      },
    };
  };
  const draw = () => {
    for (const [canvas, chart] of charts) {
      if (!canvas.isConnected) { chart.destroy(); charts.delete(canvas); }
    }
    if (!window.Chart) return;
    for (const canvas of document.querySelectorAll("canvas[data-chart]")) {
      if (!charts.has(canvas)) charts.set(canvas, new window.Chart(canvas, settings(JSON.parse(canvas.dataset.chart))));
    }
  };
  const redraw = () => {
    for (const chart of charts.values()) chart.destroy();
    charts.clear();
    draw();
  };
  window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);

  // Times are UTC on the page, and the reader's own in the title.
  const localise = () => {
    for (const time of document.querySelectorAll("time[datetime]:not([title])")) {
      const text = time.getAttribute("datetime");
      if (text.length > 10) time.title = new Date(text).toLocaleString();
    }
  };

  document.addEventListener("click", (event) => {
    const copy = event.target.closest("[data-copy]");
    if (copy) {
      const from = document.querySelector(copy.dataset.copy);
      const text = from.value ?? from.textContent;
      const done = () => {
        copy.textContent = "Copied";
        announce("Copied");
        setTimeout(() => { copy.textContent = "Copy"; }, 2000);
      };
      const byHand = () => {
        window.getSelection().selectAllChildren(from);
        copy.textContent = "Press Ctrl+C";
      };
      if (navigator.clipboard) navigator.clipboard.writeText(text).then(done, byHand);
      else byHand();  // plain http off loopback
    }
    if (event.target.closest("[data-print]")) window.print();
  });

  document.addEventListener("submit", (event) => {
    const form = event.target;
    if (form.dataset.confirm && !window.confirm(form.dataset.confirm)) return event.preventDefault();
    // Who clicks twice means one thing.
    const soon = form.method === "post" && Date.now() - Number(form.dataset.sent || 0) < 2000;
    if (soon) event.preventDefault();
    else form.dataset.sent = Date.now();
  });

  document.addEventListener("change", (event) => {
    if (event.target.matches("[data-autosubmit]")) event.target.form.requestSubmit();
  });

  // Order by drag: the list's form is sent when an entry is dropped. The buttons beside each entry do the same without a mouse.
  let dragged = null;
  document.addEventListener("dragstart", (event) => {
    dragged = event.target.closest("[data-sortable] > li");
    if (dragged) dragged.classList.add("dragged");
  });
  document.addEventListener("dragover", (event) => {
    const over = event.target.closest("[data-sortable] > li");
    if (!dragged || !over || over.parentElement !== dragged.parentElement) return;
    event.preventDefault();
    const box = over.getBoundingClientRect();
    over.parentElement.insertBefore(dragged, event.clientY < box.top + box.height / 2 ? over : over.nextElementSibling);
  });
  document.addEventListener("dragend", () => {
    if (!dragged) return;
    dragged.classList.remove("dragged");
    const form = dragged.closest("form");
    dragged = null;
    if (form) form.requestSubmit();
  });

  // On a telephone the navigation is a row that scrolls: where one is stands in sight.
  const here = document.querySelector(".side [aria-current]");
  if (here) here.closest("ul").scrollLeft = here.offsetLeft - 40;

  const arrived = () => { draw(); localise(); };
  document.addEventListener("htmx:afterSettle", arrived);
  arrived();
})();
