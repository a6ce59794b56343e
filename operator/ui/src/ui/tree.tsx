// Any data, to be read: names and values, nested.
export function Tree({ value }: { value: unknown }) {
  if (Array.isArray(value)) {
    if (value.length === 0) return <span class="muted">–</span>;
    return (
      <ul class="tree-list">
        {value.map((each, index) => (
          <li key={index}>
            <Tree value={each} />
          </li>
        ))}
      </ul>
    );
  }
  if (typeof value === "object" && value !== null) {
    const entries = Object.entries(value).filter(([, each]) => each !== undefined && each !== null);
    if (entries.length === 0) return <span class="muted">–</span>;
    return (
      <dl class="tree">
        {entries.map(([name, each]) => (
          <div key={name}>
            <dt>{name}</dt>
            <dd>
              <Tree value={each} />
            </dd>
          </div>
        ))}
      </dl>
    );
  }
  return <span class="value">{String(value)}</span>;
}
