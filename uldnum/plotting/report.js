"use strict";

// Most rows of a table that are drawn; all rows are sorted, filtered and downloaded.
const MOST_ROWS = 500;

// Return a new element. Text is never read as HTML.
function element(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

// Show a number with four digits, and anything else as it is. A number that is not known is empty.
function shown(value) {
  if (value === null) return "";
  return typeof value === "number" && !Number.isInteger(value) ? String(Number(value.toPrecision(4))) : String(value);
}

// Return the test of a filter: a comparison such as "<= 0.1" for numbers, or a part of a text.
function test(filter) {
  const found = /^\s*(<=|>=|<|>|=)\s*(.+)$/.exec(filter);
  if (!found || !Number.isFinite(Number(found[2]))) {
    const part = filter.trim().toLowerCase();
    return value => shown(value).toLowerCase().includes(part);
  }
  const bound = Number(found[2]);
  const tests = {
    "<": x => x < bound, ">": x => x > bound, "<=": x => x <= bound, ">=": x => x >= bound, "=": x => x === bound,
  };
  return value => typeof value === "number" && tests[found[1]](value);
}

function compare(a, b) {
  if (a === null || b === null) return (a === null) - (b === null);
  return typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b));
}

// Return rows as CSV (RFC 4180), with all digits.
function csv(columns, rows) {
  const cell = value => {
    const text = value === null ? "" : String(value);
    return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  };
  return [columns, ...rows].map(row => row.map(cell).join(",") + "\r\n").join("");
}

function download(name, text) {
  const link = element("a", { download: name, href: URL.createObjectURL(new Blob([text], { type: "text/csv" })) });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

// Draw a table that sorts and filters, and return it with a function that draws it again.
function table({ columns, rows, file }, allowed) {
  const filters = columns.map(() => ""), order = { column: -1, sign: 1 };
  const body = element("tbody"), count = element("span"), headings = element("tr");
  const numeric = columns.map((_, i) => rows.every(row => row[i] === null || typeof row[i] === "number"));
  const buttons = columns.map((name, i) => element("button", {
    textContent: name,
    onclick: () => {
      order.sign = order.column === i ? -order.sign : 1;
      order.column = i;
      draw();
    },
  }));
  columns.forEach((name, i) => headings.append(element(
    "th", { className: numeric[i] ? "" : "text" }, buttons[i],
    element("input", {
      placeholder: numeric[i] ? "< 0.1" : "filter", ariaLabel: `filter of ${name}`,
      oninput: event => { filters[i] = event.target.value; draw(); },
    }),
  )));
  const chosen = () => {
    const tests = filters.map((filter, i) => filter.trim() && [i, test(filter)]).filter(Boolean);
    const kept = rows.filter(row => allowed(row) && tests.every(([i, passes]) => passes(row[i])));
    return order.column < 0 ? kept : kept.sort((a, b) => order.sign * compare(a[order.column], b[order.column]));
  };
  const draw = () => {
    const kept = chosen();
    buttons.forEach((button, i) => {
      button.textContent = columns[i] + (order.column === i ? (order.sign > 0 ? " ▲" : " ▼") : "");
    });
    body.replaceChildren(...kept.slice(0, MOST_ROWS).map(row => element("tr", {}, ...row.map((value, i) =>
      element("td", { textContent: shown(value), className: numeric[i] ? "" : "text" })))));
    const part = kept.length > MOST_ROWS ? `, the first ${MOST_ROWS} shown` : "";
    count.textContent = `${kept.length} of ${rows.length} rows${part}`;
  };
  draw();
  const save = element("button", {
    textContent: "Download these rows as CSV", onclick: () => download(file, csv(columns, chosen())),
  });
  const whole = element("div", {}, element("div", { className: "tools" }, count, save),
    element("div", { className: "scroll" }, element("table", {}, element("thead", {}, headings), body)));
  return [whole, draw];
}

// Draw the states along each chain as a strip. A slider chooses the state that is enlarged beside it.
function strips({ steps, chains, height, width }) {
  const whole = element("div"), label = element("output"), rows = [];
  const slider = element("input", { type: "range", min: 0, max: steps.length - 1, value: steps.length - 1 });
  const draw = () => {
    const place = Number(slider.value);
    label.textContent = `step ${steps[place]}`;
    for (const { canvas, image, mark } of rows) {
      canvas.getContext("2d").drawImage(image, place * width, 0, width, height, 0, 0, width, height);
      mark.style.left = `${100 * place / steps.length}%`;
      mark.style.width = `${100 / steps.length}%`;
    }
  };
  whole.append(element("label", { className: "slider" }, "state along the chain", slider, label));
  chains.forEach((source, i) => {
    const canvas = element("canvas", { width, height }), mark = element("span", { className: "mark" });
    canvas.style.height = `${Math.max(height, 84)}px`;
    const image = element("img", { src: source, alt: `states of chain ${i}`, onload: draw });
    rows.push({ canvas, image, mark });
    const strip = element("div", {}, image, mark);
    strip.style.maxWidth = `${steps.length * Math.max(width, 56)}px`;
    whole.append(element("div", { className: "strip" }, canvas, strip));
  });
  slider.oninput = draw;
  return whole;
}

// Draw a part of the report: switches of names, figures, pictures, strips, the table and the provenance.
function part(content) {
  const off = new Set(), redraw = [], named = [];
  const whole = element("section", { id: content.id }, element("h2", { textContent: content.title }),
    element("p", { textContent: content.caption }));
  document.querySelector("main").append(whole);
  if (content.names.length > 1) {
    whole.append(element("div", { className: "names" }, ...content.names.map(({ name, label, colour }) => {
      const swatch = element("span", { className: "swatch" });
      swatch.style.background = colour;
      const box = element("input", {
        type: "checkbox", checked: true, name,
        onchange: event => { off[event.target.checked ? "delete" : "add"](name); redraw.forEach(draw => draw()); },
      });
      return element("label", {}, box, swatch, label);
    })));
  }
  const figures = whole.appendChild(element("div", { className: "figures" }));
  for (const { data, layout } of content.figures) {
    const place = figures.appendChild(element("div", { className: "figure" }));
    Plotly.newPlot(place, data, layout, {
      responsive: true, displaylogo: false, toImageButtonOptions: { format: "svg", filename: content.id },
    });
    redraw.push(() => Plotly.restyle(place, { visible: data.map(trace => !off.has(trace.meta)) }));
  }
  const pictures = whole.appendChild(element("div", { className: "pictures" }));
  for (const { source, caption, name, whole } of content.pictures) {
    const picture = pictures.appendChild(element("figure", {},
      element("img", { src: source, alt: caption, className: whole ? "whole" : "" }),
      element("figcaption", { textContent: caption })));
    named.push([picture, name]);
  }
  redraw.push(() => named.forEach(([picture, name]) => { picture.hidden = off.has(name); }));
  if (content.strips) whole.append(strips(content.strips));
  if (content.table) {
    const place = content.table.columns.indexOf(content.key);
    const [drawn, draw] = table(content.table, row => place < 0 || !off.has(row[place]));
    whole.append(drawn);
    redraw.push(draw);
  }
  whole.append(element("details", {}, element("summary", { textContent: "Provenance" }), element("table", {},
    ...content.provenance.map(pair => element("tr", {}, ...pair.map(text => element("td", { textContent: text })))))));
}

JSON.parse(document.getElementById("data").textContent).forEach(part);
