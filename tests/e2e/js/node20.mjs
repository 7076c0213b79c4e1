// matrix-js-sdk asks for Node 22; Debian has 20, which lacks only this.
Promise.withResolvers ??= function withResolvers() {
  let resolve;
  let reject;
  const promise = new this((res, rej) => ([resolve, reject] = [res, rej]));
  return { promise, resolve, reject };
};
