; How threads share a kernel: see threads.py, which gives %Common and %Job their fields, and defines @pause and @yield.

; `work` is a ticket, shifted by 16 bits, and the number of shares that nobody has taken. Who exchanges it for one less has taken a
; share of that very ticket, and what was read of the job in between belongs to it: the next job waits until all shares are done.
; What helpers look at to begin lies in one cache line, what the caller looks at to end in another.
;                work, function, tables, passed              done, busy                 helpers
%Common = type { i64,  ptr,      ptr,    ptr, ptr, ptr, [2 x i64], i64, i64, [6 x i64], i64 }
%Job = type { ptr, ptr, i64 }  ; function, a table of addresses for each share, number of shares

; Take a share and do it; false if there is none.
define i1 @take(ptr %common) {
  %work = load atomic i64, ptr %common acquire, align 8
  %left = and i64 %work, 65535
  %none = icmp eq i64 %left, 0
  br i1 %none, label %nothing, label %try

try:
  %at.function = getelementptr %Common, ptr %common, i64 0, i32 1
  %at.tables = getelementptr %Common, ptr %common, i64 0, i32 2
  %at.a = getelementptr %Common, ptr %common, i64 0, i32 3
  %at.b = getelementptr %Common, ptr %common, i64 0, i32 4
  %at.c = getelementptr %Common, ptr %common, i64 0, i32 5
  %function = load atomic ptr, ptr %at.function monotonic, align 8
  %tables = load atomic ptr, ptr %at.tables monotonic, align 8
  %a = load atomic ptr, ptr %at.a monotonic, align 8
  %b = load atomic ptr, ptr %at.b monotonic, align 8
  %c = load atomic ptr, ptr %at.c monotonic, align 8
  %less = sub i64 %work, 1
  %pair = cmpxchg ptr %common, i64 %work, i64 %less acq_rel acquire
  %taken = extractvalue { i64, i1 } %pair, 1
  br i1 %taken, label %do, label %nothing

do:
  %share = sub i64 %left, 1
  %at.table = getelementptr ptr, ptr %tables, i64 %share
  %table = load ptr, ptr %at.table
  call void %function(ptr %table, ptr %a, ptr %b, ptr %c)
  %at.done = getelementptr %Common, ptr %common, i64 0, i32 7
  %before = atomicrmw add ptr %at.done, i64 1 release
  ret i1 true

nothing:
  ret i1 false
}

; The turn of helper number `me`: take shares, until there have been none for `patience` rounds or fewer helpers are asked for.
define void @serve(ptr %common, i64 %me, i64 %patience) {
  %at.helpers = getelementptr %Common, ptr %common, i64 0, i32 10
  br label %look

look:
  %round = phi i64 [ 0, %0 ], [ %next, %pausing ], [ %later, %yielding ], [ 0, %taking ]
  %helpers = load atomic i64, ptr %at.helpers monotonic, align 8
  %asked = icmp ult i64 %me, %helpers
  br i1 %asked, label %taking, label %end

taking:
  %found = call i1 @take(ptr %common)
  br i1 %found, label %look, label %wait

wait:
  %next = add i64 %round, 1
  %patient = icmp ult i64 %next, %patience
  br i1 %patient, label %still, label %end

still:
  %long = icmp ugt i64 %next, 1000
  br i1 %long, label %yielding, label %pausing

pausing:
  call void @pause()
  br label %look

yielding:  ; it takes as long as some rounds
  %later = add i64 %round, 16
  call i32 @yield()
  br label %look

end:
  ret void
}

; The caller's turn: publish the job, do its last share and whatever nobody takes, wait for the rest. Alone where another caller is busy.
define void @launch(ptr %common, ptr %job, ptr %a, ptr %b, ptr %c) {
  %at.tables = getelementptr %Job, ptr %job, i64 0, i32 1
  %at.shares = getelementptr %Job, ptr %job, i64 0, i32 2
  %function = load ptr, ptr %job
  %tables = load ptr, ptr %at.tables
  %shares = load i64, ptr %at.shares
  %last = sub i64 %shares, 1
  %at.busy = getelementptr %Common, ptr %common, i64 0, i32 8
  %pair = cmpxchg ptr %at.busy, i64 0, i64 1 acquire monotonic
  %free = extractvalue { i64, i1 } %pair, 1
  br i1 %free, label %publish, label %alone

publish:
  %to.function = getelementptr %Common, ptr %common, i64 0, i32 1
  %to.tables = getelementptr %Common, ptr %common, i64 0, i32 2
  %to.a = getelementptr %Common, ptr %common, i64 0, i32 3
  %to.b = getelementptr %Common, ptr %common, i64 0, i32 4
  %to.c = getelementptr %Common, ptr %common, i64 0, i32 5
  store atomic ptr %function, ptr %to.function monotonic, align 8
  store atomic ptr %tables, ptr %to.tables monotonic, align 8
  store atomic ptr %a, ptr %to.a monotonic, align 8
  store atomic ptr %b, ptr %to.b monotonic, align 8
  store atomic ptr %c, ptr %to.c monotonic, align 8
  %at.done = getelementptr %Common, ptr %common, i64 0, i32 7
  store atomic i64 0, ptr %at.done monotonic, align 8
  %old = load atomic i64, ptr %common monotonic, align 8
  %filled = or i64 %old, 65535
  %ticket = add i64 %filled, 1
  %work = or i64 %ticket, %last
  store atomic i64 %work, ptr %common release, align 8
  %at.ours = getelementptr ptr, ptr %tables, i64 %last
  %ours = load ptr, ptr %at.ours
  call void %function(ptr %ours, ptr %a, ptr %b, ptr %c)
  br label %more

more:
  %round = phi i64 [ 0, %publish ], [ 0, %more ], [ %next, %pausing ], [ %next, %yielding ]
  %found = call i1 @take(ptr %common)
  br i1 %found, label %more, label %wait

wait:
  %next = add i64 %round, 1
  %done = load atomic i64, ptr %at.done acquire, align 8
  %over = icmp eq i64 %done, %last
  br i1 %over, label %end, label %still

still:
  %long = icmp ugt i64 %next, 1000
  br i1 %long, label %yielding, label %pausing

pausing:
  call void @pause()
  br label %more

yielding:  ; a helper that the system has interrupted may need this very core
  call i32 @yield()
  br label %more

end:
  store atomic i64 0, ptr %at.busy release, align 8
  ret void

alone:
  %index = phi i64 [ 0, %0 ], [ %index.next, %alone ]
  %at.table = getelementptr ptr, ptr %tables, i64 %index
  %table = load ptr, ptr %at.table
  call void %function(ptr %table, ptr %a, ptr %b, ptr %c)
  %index.next = add i64 %index, 1
  %on = icmp ult i64 %index.next, %shares
  br i1 %on, label %alone, label %finished

finished:
  ret void
}
