// Starts every figure of the page that is not started yet, so one copy per figure does no harm.
(function () {
  "use strict";
  const calm = window.matchMedia("(prefers-reduced-motion: reduce)");

  async function unpack(base64) {
    const bytes = Uint8Array.from(atob(base64), (c) => c.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
    return new Response(stream).json();
  }

  function picture(type, frame, lines) {
    const data =
      type === "image/svg+xml"
        ? frame.map((i) => lines[i]).join("\n")
        : Uint8Array.from(atob(frame), (c) => c.charCodeAt(0));
    return URL.createObjectURL(new Blob([data], { type }));
  }

  function start(figure) {
    figure.dataset.ready = "";
    const find = (selector) => figure.querySelector(selector);
    const meta = JSON.parse(find(".advx-meta").textContent);
    const sliders = [...figure.querySelectorAll("input[type=range]")];
    const [image, say, button] = [find("img"), find(".advx-say"), find(".advx-play")];
    let frames = null;
    let timer = null;
    let url = null;

    function show() {
      let state = 0;
      sliders.forEach((slider, i) => {
        const text = meta.values[i][+slider.value];
        state = state * meta.values[i].length + +slider.value;
        slider.parentNode.querySelector("output").textContent = text;
        slider.setAttribute("aria-valuetext", text);
      });
      const last = url;
      url = picture(meta.type, frames.frames[meta.frame[state]], frames.lines);
      image.src = url;
      if (last) URL.revokeObjectURL(last);
      image.alt = meta.alt + " " + meta.sentence[state];
      say.textContent = meta.sentence[state];
    }

    function fail() {
      say.textContent =
        "This browser cannot unpack the other frames; the figure shows its starting values.";
    }

    async function load() {
      try {
        frames = await unpack(find(".advx-frames").textContent);
      } catch {
        return fail();
      }
      [...sliders, button].forEach((control) => control && (control.disabled = false));
    }

    // Play: one step every 0.6 s until the end. With reduced motion a press is a single step.
    function step(slider) {
      slider.value = +slider.value === +slider.max ? 0 : +slider.value + 1;
      show();
      if (+slider.value === +slider.max) stop();
    }

    function stop() {
      clearInterval(timer);
      timer = null;
      say.setAttribute("aria-live", "polite");
      button.textContent = button.dataset.label;
    }

    function play() {
      const slider = sliders[+button.dataset.slider];
      if (timer) return stop();
      if (calm.matches) return step(slider);
      say.setAttribute("aria-live", "off");
      button.textContent = "Stop";
      timer = setInterval(() => (calm.matches ? stop() : step(slider)), 600);
      step(slider);
    }

    sliders.forEach((slider) => slider.addEventListener("input", show));
    // Jupyter takes the arrow keys for its notebook unless they end here.
    figure.addEventListener("keydown", (event) => event.stopPropagation());
    if (button) {
      button.dataset.label = button.textContent;
      button.addEventListener("click", play);
      sliders.forEach((slider) => slider.addEventListener("input", () => timer && stop()));
    }
    if (!("IntersectionObserver" in window)) return load();
    const near = new IntersectionObserver(
      (entries) => {
        if (!entries.some((entry) => entry.isIntersecting)) return;
        near.disconnect();
        load();
      },
      { rootMargin: "600px" }
    );
    near.observe(figure);
  }

  document.querySelectorAll("figure.advx:not([data-ready])").forEach(start);
})();
