(() => {
  const { data, at, element, figure, signed, short, fill, largest } = page;
  const prompts = data.runs[0].prompts;
  let chosen = 0;

  const prompt = () => prompts[at("prompt").selectedIndex];
  const current = () => prompt().responses[at("response").selectedIndex];
  const shown = () => document.querySelector("input[name=show]:checked").value;
  const picked = () => data.methods.filter((_, n) => at("pick").querySelectorAll("input")[n].checked);

  function fillResponses(which) {
    fill(at("response"), prompt().responses.map((each, n) => `${n + 1}: reward ${figure(each.reward)}`));
    at("response").selectedIndex = Math.min(which, prompt().responses.length - 1);
    document.dispatchEvent(new CustomEvent("prompt", { detail: at("prompt").selectedIndex }));
  }

  // What the chosen part is worth, and what two methods say of it.
  function sentence(response) {
    const one = response.segments[chosen];
    const begin = `To \u201c${short(prompt().text)}\u201d the model wrote ${response.segments.length} `
      + `${data.part}${response.segments.length === 1 ? "" : "s"} and earned a reward of ${figure(response.reward)}.`;
    if (!one) return begin;
    const first = response.segment_of.indexOf(chosen);
    const judged = data.methods.map((each) => ({ ...each, ...response.methods[each.name] }));
    const fine = judged.find((each) => each.name === data.own && each.credit) || judged.find((each) => each.credit);
    const coarse = judged.find((each) => !each.credit);
    const said = [];
    if (fine && first >= 0) said.push(`${fine.label} credits it with ${signed(fine.credit[first])}`);
    if (coarse && coarse.advantages.length) said.push(`${coarse.label} gives every token of the response the same advantage, ${signed(coarse.advantages[0])}`);
    return `${begin} Without \u201c${short(one.text, 60)}\u201d it would earn ${figure(one.without)}: this `
      + `${data.part} is worth ${signed(response.reward - one.without)}. ${said.join(", and ")}${said.length ? "." : ""}`;
  }

  function wrapper(response, row) {
    return (index) => {
      const segment = response.segments[index];
      const made = element("span", "", "part");
      made.classList.toggle("set", data.part === "candidate");
      made.classList.toggle("chosen", index === chosen);
      made.classList.toggle("null", !segment.counts);
      made.setAttribute("role", "button");
      made.setAttribute("aria-pressed", String(index === chosen));
      const values = row[shown()];
      const value = values && values[response.segment_of.indexOf(index)];
      made.setAttribute("aria-label", `${segment.text}: ${values ? signed(value) : "no credit of its own"}`);
      made.tabIndex = index === chosen ? 0 : -1;
      made.dataset.part = index;
      made.title = `${values ? signed(value) + "; " : ""}worth ${signed(response.reward - segment.without)}`;
      return made;
    };
  }

  function drawMethods(response) {
    at("methods").replaceChildren(...picked().map(({ name, label }) => {
      const method = response.methods[name];
      const values = method[shown()];
      const row = element("div", "", "method");
      row.dataset.method = name;
      row.setAttribute("role", "group");
      row.setAttribute("aria-label", label);
      const title = element("b", label);
      if (!values) {
        const whole = method.advantages.length ? signed(method.advantages[0]) : "none";
        title.append(element("small", `whole responses: every token has the advantage ${whole}`));
      }
      row.append(title, page.response(response, values, largest(values), wrapper(response, method), at("numbers").checked));
      return row;
    }));
  }

  function drawSegments(response) {
    const knows = response.segments.some((segment) => segment.true !== null);
    at("truth").hidden = !knows;
    at("segments").tBodies[0].replaceChildren(...response.segments.map((segment, index) => {
      const row = element("tr", "", segment.counts ? "" : "null");
      const name = element("th");
      const button = element("button", segment.text || "(empty)", "plain");
      button.type = "button";
      button.setAttribute("aria-pressed", String(index === chosen));
      name.scope = "row";
      name.append(button);
      const cells = [signed(response.reward - segment.without), figure(segment.without),
        figure(segment.alone), figure(segment.up_to)];
      row.append(name, ...cells.map((cell) => element("td", cell, "n")));
      if (knows) row.append(element("td", segment.true ? "yes" : "no"));
      row.addEventListener("click", () => draw(index));
      row.classList.toggle("chosen", index === chosen);
      return row;
    }));
  }

  function drawLists(response) {
    const one = response.segments[chosen];
    const without = one ? one.found_without : [];
    at("without-title").textContent = one ? `without \u201c${one.text}\u201d` : `without a ${data.part}`;
    page.ranking(at("found"), response.found, without, "gone");
    page.ranking(at("without"), without, response.found, "new");
    at("found").querySelectorAll(".up, .down").forEach((move) => move.remove());  // said on the right
    page.lines(at("explorer").querySelector(".lists"), response.found, without);
  }

  function focused() {
    const active = document.activeElement;
    if (active.matches("#methods .part")) return `[data-method="${CSS.escape(active.closest(".method").dataset.method)}"] .part.chosen`;
    return active.matches("#segments button") ? "#segments tr.chosen button" : null;
  }

  function draw(part) {
    const response = current();
    const back = focused();
    chosen = Math.max(0, Math.min(part, response.segments.length - 1));
    at("query").textContent = prompt().query;
    at("sentence").textContent = sentence(response);
    drawMethods(response);
    drawSegments(response);
    drawLists(response);
    at("permalink").href = `#example=${place().map(encodeURIComponent).join("/")}`;
    if (back) document.querySelector(back)?.focus();
  }

  const place = () => [prompt().prompt_id, at("response").selectedIndex, chosen];

  function follow() {
    const [, name, response, part] = location.hash.match(/^#example=([^/]*)\/(\d+)\/(\d+)$/) || [];
    const found = prompts.findIndex((each) => name !== undefined && each.prompt_id === decodeURIComponent(name));
    if (found < 0) return false;
    open(found, Number(response), Number(part));
    at("explorer").scrollIntoView();
    return true;
  }

  function open(which, response, part) {
    at("prompt").selectedIndex = which;
    fillResponses(response);
    draw(part);
  }

  function step(event) {
    const part = event.target.closest(".part");
    if (!part) return;
    const index = Number(part.dataset.part);
    const last = current().segments.length - 1;
    const to = { ArrowRight: Math.min(index + 1, last), ArrowLeft: Math.max(index - 1, 0), Home: 0, End: last,
      Enter: index, " ": index }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    draw(to);
  }

  fill(at("prompt"), prompts.map((each) => each.text));
  data.methods.forEach(({ label }) => {
    const box = element("input");
    box.type = "checkbox";
    box.checked = true;
    const name = element("label", ` ${label}`);
    name.prepend(box);
    at("pick").append(name);
  });
  at("prompt").addEventListener("change", () => { fillResponses(0); draw(0); });
  at("response").addEventListener("change", () => draw(0));
  at("methods").addEventListener("click", (event) => {
    const part = event.target.closest(".part");
    if (part) { part.focus(); draw(Number(part.dataset.part)); }
  });
  at("methods").addEventListener("keydown", step);
  at("explorer").querySelectorAll("input").forEach((each) => each.addEventListener("change", () => draw(chosen)));
  window.addEventListener("resize", () => drawLists(current()));
  window.addEventListener("hashchange", follow);
  queueMicrotask(() => { if (!follow()) open(...data.start); });  // once all scripts listen
})();
