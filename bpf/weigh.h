/* SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0) */
/*
 * An object is weighed against the watches: which acts on it may match a rule that stops?
 *
 * A watch is found by inode, by name in its directory, by either spelling of the path, or by a
 * directory that either leads through. One of them is enough: too many holds cost a released process
 * some time, one too few would let it run.
 */
#ifndef ESTOP_WEIGH_H
#define ESTOP_WEIGH_H

#include "path.h"

#define SPELLED_MASK 4095 /* holds what put_path() writes of one path */
/* Bytes of a caller's text in which its last two parts must lie. */
#define SCAN_NAME 255
#define SCAN_SOCKET 108 /* sun_path is no longer */

/* Keys are too large for the stack. */
struct estop_scratch {
	/* One spelling of a path: a key, and room for one at each of its names. */
	__u8 spelling[2 * (SPELLED_MASK + 1) + sizeof(struct estop_names_key)];
	/* Where it lies in the tail: here and not on the stack, for the reason of struct estop_record. */
	__u32 own_at; /* the names up to the root of its filesystem or to the task's */
	__u32 own_end;
	__u32 rest_at; /* those that follow */
	__u32 length; /* of both together */
	struct estop_watch found;
	struct estop_exempt_key exempt;
	__u32 forgiven;
	struct estop_name_key name;
	struct estop_leaf_key leaf;
	struct estop_leaf_key parent;
	__u32 leaf_at;
	__u32 parent_at;
	__u32 slashes;
	__u32 reserved;
	struct estop_question question;
};
BPF_PERCPU_ARRAY(scratches, struct estop_scratch, RECORD_ROWS);

/* Whose record it is, his is the scratch. */
static __always_inline struct estop_scratch *scratch_buffer(struct estop_record *r)
{
	__u32 row = r->row;
	return scratches.lookup(&row);
}

static __always_inline int forgives(struct estop_watch *w, __u64 image_inode, int below)
{
	/* A struct estop_exempt_key by whole words: one that is written by halves keeps, to the verifier,
	 * what it held before, and no two ways to a loop look the same. */
	__u64 group = below ? w->exempt_below : w->exempt;
	__u64 key[2] = {image_inode, group};
	return group && exempt_programs.lookup((struct estop_exempt_key *)key);
}

static __always_inline void weigh(struct estop_record *r, struct estop_watch *w, __u64 image_inode,
				  int below)
{
	if (!w || forgives(w, image_inode, below))
		return;
	r->hold |= below ? w->hold_below : w->hold;
	r->certain |= below ? w->certain_below : w->certain;
}

/* Read anew each time: the verifier knows nothing of it, whatever it was compared with before. */
#define AFRESH(field) (*(volatile __u32 *)&(field))

/* All bits if a < b, and none otherwise, without a jump. */
static __always_inline __u64 less(__u64 a, __u64 b)
{
	__u64 difference = a - b;
	asm volatile("" : "+r"(difference)); /* the compiler would make a jump of it */
	return -(difference >> 63);
}

/* What is left of the spelling from `at` on, `bytes` of it. The key's own bits go over the name before,
 * which has had its turn. */
static __always_inline struct estop_watch *watch_of(struct estop_scratch *s, __u64 at, __u32 bytes)
{
	BOUND(at, 2 * SPELLED_MASK + 1);
	struct estop_names_key *key = (struct estop_names_key *)(s->spelling + at);
	key->prefixlen = bytes * 8;
	return watched_paths.lookup(key);
}

/* A directory whose name begins at `start` in the tail, if this spelling leads through it. Without a
 * jump: the verifier follows both ways of each, at each of the names. What is not there is read as 0. */
static __always_inline void weigh_below(struct estop_record *r, struct estop_scratch *s,
					__u64 start, __u64 image_inode)
{
	__u64 length = AFRESH(s->length), own_at = AFRESH(s->own_at);
	__u64 own_end = AFRESH(s->own_end), rest_at = AFRESH(s->rest_at);
	__u64 in_own = less(start, own_end), in_rest = ~less(start, rest_at);
	__u64 at = start - own_at - (in_rest & (rest_at - own_end));
	__u64 there = (in_own | in_rest) & less(0, at) & less(at, length);

	/* The names that it does not lead through are looked up as nothing, at 0: nothing is lost there. */
	bpf_probe_read_kernel(&s->found, sizeof(s->found),
			      watch_of(s, at & there, (length - at + 1) & there));
	s->exempt.image_inode = image_inode;
	s->exempt.group = AFRESH(s->found.exempt_below);
	bpf_probe_read_kernel(&s->forgiven, sizeof(s->forgiven), exempt_programs.lookup(&s->exempt));
	__u32 kept = AFRESH(s->forgiven) - 1;
	r->hold |= AFRESH(s->found.hold_below) & kept;
	r->certain |= AFRESH(s->found.certain_below) & kept;
}

/* A spelling of the path that was walked last, `own` bytes of the tail at `at` and `rest` bytes at
 * `from`, and the directories that it leads through: `most` names are looked at. */
static __always_inline void weigh_spelling(struct estop_record *r, struct estop_scratch *s, __u64 at,
					   __u64 own, __u64 from, __u64 rest, __u64 image_inode,
					   int most)
{
	__u8 *names = s->spelling + offsetof(struct estop_names_key, names);
	struct estop_settings *settings = settings_row();
	__u32 bytes;

	BOUND(own, SPELLED_MASK);
	BOUND(rest, SPELLED_MASK);
	BOUND(at, TAIL_MASK);
	BOUND(from, TAIL_MASK);
	s->own_at = at;
	s->own_end = at + own;
	s->rest_at = from;
	s->length = own + rest;
	bpf_probe_read_kernel(names, own, r->tail + at);
	bpf_probe_read_kernel(names + own, rest, r->tail + from);
	names[own + rest] = 0;
	bytes = own + rest + 1;
	weigh(r, watch_of(s, 0, bytes < NAMES_BYTES ? bytes : NAMES_BYTES), image_inode, 0);
	if (!settings || !settings->watches_below)
		return;
	for (int i = 1; i < most && i < r->depth; i++)
		weigh_below(r, s, r->starts[i], image_inode);
}

/* By its inode, before anything else is known of it. The row was made for the watched path, and a
 * link makes the file's own path another one: what that one is watched for is not in the row. */
static __always_inline void weigh_by_inode(struct estop_record *r, struct inode *object,
					   __u64 image_inode)
{
	struct super_block *sb = KERNEL(inode, object, i_sb);
	struct estop_inode_key key = {};

	key.inode = KERNEL(inode, object, i_ino);
	key.dev = KERNEL(super_block, sb, s_dev);
	struct estop_watch *known = watched_inodes.lookup(&key);
	weigh(r, known, image_inode, 0);
	weigh(r, known, image_inode, 1);
}

/* `at`: where the names of `file` begin in the tail; it must be the path that was walked last. */
static __always_inline void weigh_by_name(struct estop_record *r, struct estop_wire_file *file,
				       struct dentry *d, __u32 at, __u64 image_inode)
{
	struct estop_scratch *s = scratch_buffer(r);

	if (!s)
		return;
	__builtin_memset(&s->name, 0, sizeof(s->name));
	s->name.parent_inode = file->parent_inode;
	s->name.dev = file->path.dev;
	bpf_probe_read_kernel_str(s->name.name, sizeof(s->name.name),
				  KERNEL(dentry, d, d_name.name));
	struct estop_watch *named = watched_names.lookup(&s->name);
	weigh(r, named, image_inode, 0);
	weigh(r, named, image_inode, 1);
	struct estop_wire_path *path = &file->path;
	__u64 end = (__u64)at + path->len;
	weigh_spelling(r, s, at, path->len, end, 0, image_inode, MAX_DEPTH);
	/* Within the file's own filesystem: the same names for every mount of it, and in a chroot. */
	if (path->own_len != path->len || path->above_len)
		weigh_spelling(r, s, at, path->own_len, end, path->above_len, image_inode,
			       2 * MAX_DEPTH);
}

static __always_inline void weigh_file(struct estop_record *r, struct estop_wire_file *file,
				       struct dentry *d, __u32 at, __u64 image_inode)
{
	struct inode *object = KERNEL(dentry, d, d_inode);

	if (object)
		weigh_by_inode(r, object, image_inode);
	weigh_by_name(r, file, d, at, image_inode);
}

/* Where the last two parts of a text in the tail begin. A text that ends in a slash has no leaf
 * here, nor has one whose parts are longer than `scan`. */
static __always_inline void find_leaf(struct estop_record *r, struct estop_scratch *s, __u32 at,
				      __u32 length, int scan)
{
	s->slashes = 0;
	s->leaf_at = s->parent_at = at;
	for (int i = 1; i <= scan; i++) {
		/* The compiler must not count the length down instead: the verifier of 6.1 knows no
		 * bound of it, and follows at most 8192 turns. */
		asm volatile("" : "+r"(length));
		if (i > length)
			break;
		__u64 position = at + length - i;
		BOUND(position, TAIL_MASK);
		if (r->tail[position] != '/')
			continue;
		s->slashes++;
		if (s->slashes == 1)
			s->leaf_at = position + 1;
		if (s->slashes == 2) {
			s->parent_at = position + 1;
			break;
		}
	}
}

static __always_inline void copy_part(struct estop_record *r, struct estop_leaf_key *key, __u64 at,
				      __u64 end)
{
	__u64 length = end > at ? end - at : 0;

	__builtin_memset(key, 0, sizeof(*key));
	if (length > sizeof(key->name) - 1)
		return;
	BOUND(length, WATCHED_NAME_BYTES - 1);
	BOUND(at, TAIL_MASK);
	bpf_probe_read_kernel(key->name, length, r->tail + at);
}

/* Names that say nothing about the directory: a filesystem's root, `.`, `..`, `//`. */
static __always_inline int could_be_any(const char *name)
{
	return !name[0] || name[0] == '/' ||
	       (name[0] == '.' && (!name[1] || (name[1] == '.' && !name[2])));
}

static __always_inline int is_parent(const char *wanted, const char *parent)
{
	const __u64 *a = (const __u64 *)wanted, *b = (const __u64 *)parent;
	return a[0] && a[0] == b[0] && a[1] == b[1] && a[2] == b[2] && a[3] == b[3];
}

/*
 * A name as the caller spelled it: `length` bytes of text at `at` in the tail. Its last part and the
 * one before are compared; user space resolves the rest. `d` is the directory a relative text
 * starts at.
 */
static __always_inline void weigh_text(struct estop_record *r, __u32 at, __u32 length,
				       struct dentry *d, int scan)
{
	struct estop_scratch *s = scratch_buffer(r);
	struct estop_leaf *leaf;

	if (!s || !length)
		return;
	find_leaf(r, s, at, length, scan);
	copy_part(r, &s->leaf, s->leaf_at, at + length);
	if (s->slashes) {
		copy_part(r, &s->parent, s->parent_at, (__u64)s->leaf_at - 1);
	} else {
		__builtin_memset(&s->parent, 0, sizeof(s->parent));
		if (d)
			bpf_probe_read_kernel_str(s->parent.name, sizeof(s->parent.name),
						  KERNEL(dentry, d, d_name.name));
	}
	leaf = watched_leaves.lookup(&s->leaf);
	if (leaf) {
		int known = leaf->any_parent || could_be_any(s->parent.name);
#pragma unroll
		for (int i = 0; i < PARENTS; i++)
			known |= is_parent(leaf->parents[i], s->parent.name);
		if (known)
			r->hold |= leaf->hold;
	}
	leaf = watched_leaves.lookup(&s->parent);
	if (leaf)
		r->hold |= leaf->hold_below;
}

#endif
