// The frame of a page: heading, actions, and the title of the tab.
import type { ComponentChildren } from "preact";
import { useEffect, useRef } from "preact/hooks";
import { place } from "../lib/router";

interface Props {
  title: string;
  /** The page above it, as a link. */
  above?: [text: string, href: string];
  lead?: ComponentChildren;
  actions?: ComponentChildren;
  children: ComponentChildren;
}

let firstPage = true;

export function Page({ title, above, lead, actions, children }: Props) {
  const heading = useRef<HTMLHeadingElement>(null);
  const path = place.value.path;
  useEffect(() => {
    document.title = `${title} · idm`;
  }, [title]);
  useEffect(() => {
    // A new page begins at its heading, also for the keyboard; the first one begins where the browser does.
    if (!firstPage) heading.current?.focus({ preventScroll: true });
    firstPage = false;
    scrollTo(0, 0);
  }, [path]);
  return (
    <>
      <header class="page-head">
        <div class="page-title">
          {above && (
            <a class="above" href={above[1]}>
              {above[0]}
            </a>
          )}
          <h1 ref={heading} tabIndex={-1}>
            {title}
          </h1>
          {lead && <div class="lead">{lead}</div>}
        </div>
        {actions && <div class="actions">{actions}</div>}
      </header>
      {children}
    </>
  );
}

/** A part of a page. */
export const Card = ({
  title,
  children,
  actions,
  flush,
}: {
  title: string;
  children: ComponentChildren;
  actions?: ComponentChildren;
  flush?: boolean;
}) => (
  <section class={flush ? "card flush" : "card"}>
    <header class="card-head">
      <h2>{title}</h2>
      {actions}
    </header>
    {children}
  </section>
);

export const Time = ({ at, children }: { at: string; children: ComponentChildren }) => (
  <time dateTime={at} title={at}>
    {children}
  </time>
);
