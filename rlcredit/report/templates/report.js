"use strict";
(() => {
  const holder = document.getElementById("data");
  if (!holder) return;
  const data = JSON.parse(holder.textContent);
  const at = (id) => document.getElementById(id);
  const element = (name, text = "", className = "") => {
    const made = document.createElement(name);
    made.textContent = text;
    if (className) made.className = className;
    return made;
  };
  const signed = (value) => (value < 0 ? "\u2212" : "+") + Math.abs(value).toFixed(3);
  let chosen = 0;

  const prompt = () => data.prompts[at("prompt").selectedIndex];
  const response = () => prompt().responses[at("response").selectedIndex];
  const shown = () => document.querySelector("input[name=show]:checked").value;

  function option(select, text) {
    const made = element("option", text.length > 90 ? text.slice(0, 89) + "\u2026" : text);
    select.append(made);
  }

  function fillResponses() {
    at("response").replaceChildren();
    prompt().responses.forEach((each, index) =>
      option(at("response"), `${index + 1}: reward ${each.reward.toFixed(3)}`));
    draw(0);
  }

  function token(text, value, largest, segment, describe) {
    const made = element("span", text, "token");
    const size = largest > 0 && value !== null ? Math.abs(value) / largest : 0;
    made.style.setProperty("--tone", value < 0 ? "var(--bad)" : "var(--good)");
    made.style.setProperty("--depth", (0.55 * size).toFixed(3));
    made.style.setProperty("--thick", size < 0.02 ? "0px" : `${1 + Math.round(3 * size)}px`);
    made.style.setProperty("--dash", value < 0 ? "dashed" : "solid");
    made.title = value === null ? "no credit of its own" : signed(value) + describe;
    if (at("numbers").checked && value !== null) made.append(element("sub", signed(value)));
    if (segment >= 0) {
      made.setAttribute("role", "button");
      made.tabIndex = 0;
      made.addEventListener("click", () => draw(segment));
      made.addEventListener("keydown", (event) => {
        if (event.key === "Enter" || event.key === " ") { event.preventDefault(); draw(segment); }
      });
      if (segment === chosen) made.classList.add("chosen");
    }
    return made;
  }

  function drawMethods(current) {
    const rows = data.methods.map((name) => {
      const method = current.methods[name];
      const row = element("div", "", "method");
      const values = shown() === "credit" ? method.credit : method.advantages;
      const label = element("b", name);
      label.append(element("small", values === null ? "whole responses only: advantage "
        + (method.advantages.length ? signed(method.advantages[0]) : "none") : ""));
      const text = element("div", "", "text");
      const largest = Math.max(0, ...(values || [0]).map(Math.abs));
      current.tokens.forEach((piece, index) => {
        const segment = current.segment_of[index];
        const of = segment < 0 ? null : current.segments[segment];
        const describe = of === null ? "" : `; the ${data.part} alone ${of.alone.toFixed(3)}, `
          + `everything ${current.reward.toFixed(3)}, without it ${of.without.toFixed(3)}`;
        text.append(token(piece, values === null ? null : values[index], largest, segment, describe));
      });
      row.append(label, text);
      return row;
    });
    at("methods").replaceChildren(...rows);
  }

  function drawSegments(current) {
    const rows = current.segments.map((segment, index) => {
      const row = element("tr", "", segment.counts ? "" : "null");
      const name = element("th", segment.text);
      name.scope = "row";
      const cells = [segment.alone.toFixed(3), segment.without.toFixed(3),
        signed(current.reward - segment.without), segment.up_to.toFixed(3)];
      row.append(name, ...cells.map((cell) => element("td", cell, "n")),
        element("td", segment.true === null ? "" : segment.true ? "yes" : "no"));
      row.addEventListener("click", () => draw(index));
      if (index === chosen) row.classList.add("chosen");
      return row;
    });
    at("segments").tBodies[0].replaceChildren(...rows);
  }

  function list(target, hits, other) {
    const there = new Set(other.map((hit) => hit.document_id));
    target.replaceChildren(...hits.map((hit) => {
      const title = data.titles[hit.document_id] || hit.document_id;
      const made = element("li", `${hit.grade > 0 ? "\u2605".repeat(hit.grade) + " " : ""}${title}`);
      if (hit.grade > 0) made.classList.add("hit");
      if (!there.has(hit.document_id)) made.classList.add("changed");
      return made;
    }));
    if (!hits.length) target.replaceChildren(element("p", "nothing: the text has no known word"));
  }

  function draw(segment) {
    const current = response();
    chosen = Math.min(segment, Math.max(0, current.segments.length - 1));
    at("query").textContent = `Query: ${prompt().query}`;
    drawMethods(current);
    drawSegments(current);
    const one = current.segments[chosen];
    const without = one ? one.found_without : [];
    at("without-title").textContent = one ? `without \u201c${one.text}\u201d` : `without a ${data.part}`;
    list(at("found"), current.found, without);
    list(at("without"), without, current.found);
  }

  data.prompts.forEach((each) => option(at("prompt"), each.text));
  at("prompt").addEventListener("change", fillResponses);
  at("response").addEventListener("change", () => draw(0));
  at("numbers").addEventListener("change", () => draw(chosen));
  document.querySelectorAll("input[name=show]").forEach((each) =>
    each.addEventListener("change", () => draw(chosen)));
  const uneven = data.prompts.findIndex((each) =>
    new Set(each.responses.map((one) => one.reward)).size > 1);
  at("prompt").selectedIndex = Math.max(0, uneven);  // a group of equal rewards has no credit to show
  fillResponses();
})();
