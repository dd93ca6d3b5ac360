// Airflow's own dress, also where an operator has given it another: colours and type are read from Airflow's page
// around this one.

const TOKENS: Record<string, string> = {
  "--bg": "--chakra-colors-bg",
  "--bg-subtle": "--chakra-colors-bg-subtle",
  "--bg-muted": "--chakra-colors-bg-muted",
  "--fg": "--chakra-colors-fg",
  "--fg-muted": "--chakra-colors-fg-muted",
  "--border": "--chakra-colors-border",
  "--border-emphasized": "--chakra-colors-border-emphasized",
  "--link": "--chakra-colors-fg-info",
  "--brand": "--chakra-colors-brand-solid",
  "--brand-contrast": "--chakra-colors-brand-contrast",
  "--focus": "--chakra-colors-brand-focus-ring",
  "--done": "--chakra-colors-success-solid",
  "--running": "--chakra-colors-running-solid",
  "--failed": "--chakra-colors-failed-solid",
  "--waiting": "--chakra-colors-queued-solid",
  "--stopped": "--chakra-colors-up_for_retry-solid",
  // signs and words: what Airflow reads well on its background, dark or light
  "--done-sign": "--chakra-colors-success-fg",
  "--running-sign": "--chakra-colors-running-fg",
  "--failed-sign": "--chakra-colors-failed-fg",
  "--waiting-sign": "--chakra-colors-queued-fg",
  "--stopped-sign": "--chakra-colors-up_for_retry-fg",
};

/**
 * Follows Airflow's page for as long as this one is open. Opened by itself, or inside a page of another site, it is as
 * the system has it.
 */
export function dress(): void {
  let outside: HTMLElement;
  let looks: (element: HTMLElement) => CSSStyleDeclaration;
  try {
    if (window.parent === window) return;
    outside = window.parent.document.documentElement;
    looks = (element) => window.parent.getComputedStyle(element);
  } catch {
    return;
  }
  const here = document.documentElement;
  const follow = () => {
    for (const name of ["light", "dark"]) here.classList.toggle(name, outside.classList.contains(name));
    const theirs = looks(outside);
    for (const [ours, token] of Object.entries(TOKENS)) {
      const value = theirs.getPropertyValue(token).trim();
      if (value && CSS.supports("color", value)) here.style.setProperty(ours, value);
      else here.style.removeProperty(ours);
    }
    here.style.fontFamily = looks(window.parent.document.body).fontFamily;
  };
  follow();
  new MutationObserver(follow).observe(outside, {
    attributes: true,
    attributeFilter: ["class", "data-theme", "style"],
  });
}

/**
 * A link out of the frame. Airflow's sandbox around it allows no new windows, so the click is made in Airflow's own
 * page, where the person is.
 */
export function openOutside(event: React.MouseEvent<HTMLAnchorElement>): void {
  if (window.parent === window) return;
  try {
    const link = window.parent.document.createElement("a");
    link.href = event.currentTarget.href;
    link.target = "_blank";
    link.rel = "noopener noreferrer";
    link.click();
    event.preventDefault();
  } catch {
    // a page of another site around this one: the browser follows the link as it can
  }
}
