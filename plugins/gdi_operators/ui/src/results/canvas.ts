// A canvas that wears the page's dress: drawn again when that changes.
import { type RefObject, useEffect } from "react";

type Draw = (pen: CanvasRenderingContext2D, look: CSSStyleDeclaration) => void;

/** `draw` in units of the picture of `width` by `height`; its colours are `look`'s. Again when `of` change. */
export function useDrawing(
  canvas: RefObject<HTMLCanvasElement | null>,
  width: number,
  height: number,
  draw: Draw,
  of: readonly unknown[],
) {
  useEffect(() => {
    const whole = () => {
      const c = canvas.current;
      const pen = c?.getContext("2d");
      if (!c || !pen) return;
      const scale = Math.max(window.devicePixelRatio, 2);
      c.width = width * scale;
      c.height = height * scale;
      pen.scale(scale, scale);
      draw(pen, getComputedStyle(c)); // the colours as they come out, which a canvas can read
    };
    whole();
    const dressed = new MutationObserver(whole);
    dressed.observe(document.documentElement, { attributes: true, attributeFilter: ["class", "style"] });
    return () => dressed.disconnect();
  }, of);
}
